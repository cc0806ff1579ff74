"""Use-cases: each public method is one thing that a till, a person or the cloud can ask for."""
