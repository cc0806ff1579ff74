"""An IPP printer: its queue, its paper, and the program around them (`python -m drivers.sim.ipp`)."""

from drivers.sim.ipp.engine import IppOptions, IppSimulator

__all__ = ["IppOptions", "IppSimulator"]
