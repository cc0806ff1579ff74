"""An OPI terminal: its engine, its faults, and the program around them (`python -m drivers.sim.opi`)."""

from drivers.sim.opi.engine import OpiSimulator, SimulatorOptions

__all__ = ["OpiSimulator", "SimulatorOptions"]
