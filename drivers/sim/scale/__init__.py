"""Scales: their engines, and the program around them (`python -m drivers.sim.scale`)."""

from drivers.sim.scale.engine import SCALES, CasSimulator, CasStreamSimulator, ScaleSimulator, ToledoSimulator

__all__ = ["SCALES", "CasSimulator", "CasStreamSimulator", "ScaleSimulator", "ToledoSimulator"]
