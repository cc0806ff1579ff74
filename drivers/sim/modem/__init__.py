"""GSM modems: the engine, and the program around it (`python -m drivers.sim.modem`)."""

from drivers.sim.modem.engine import ModemSimulator

__all__ = ["ModemSimulator"]
