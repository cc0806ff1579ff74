"""A Caisse Concert terminal: its engine, its faults, and the program around them (`python -m drivers.sim.concert`)."""

from drivers.sim.concert.engine import ConcertSimulator

__all__ = ["ConcertSimulator"]
