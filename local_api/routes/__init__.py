"""The routes, one module for each thing that a till or a person may ask for."""
