"""A receipt printer: how it reads, its paper, and the program around them (`python -m drivers.sim.escpos`)."""

from drivers.sim.escpos.engine import EscposSimulator, PrinterOptions

__all__ = ["EscposSimulator", "PrinterOptions"]
