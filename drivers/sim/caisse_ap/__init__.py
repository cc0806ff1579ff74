"""A Caisse-AP terminal: its engine, its faults, and the program around them (`python -m drivers.sim.caisse_ap`)."""

from drivers.sim.caisse_ap.engine import CaisseApSimulator, LineHabit, SimulatorOptions

__all__ = ["CaisseApSimulator", "LineHabit", "SimulatorOptions"]
