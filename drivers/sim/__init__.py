"""Simulators: programs that speak a device's wire protocol and keep books of their own, with a menu of faults."""
