"""A ZVT terminal: its engine, its faults, and the program around them (`python -m drivers.sim.zvt`)."""

from drivers.sim.zvt.engine import SimulatorOptions, ZvtSimulator

__all__ = ["SimulatorOptions", "ZvtSimulator"]
