"""Every SQL statement of the hub."""
