"""A POSLink terminal: its engine, its faults, and the program around them (`python -m drivers.sim.poslink`)."""

from drivers.sim.poslink.engine import PoslinkSimulator, SimulatorOptions

__all__ = ["PoslinkSimulator", "SimulatorOptions"]
