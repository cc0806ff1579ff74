"""The deterministic simulation: virtual time, one seed."""
