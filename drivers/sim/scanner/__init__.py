"""Barcode scanners: their engines, and the program around them (`python -m drivers.sim.scanner`)."""

from drivers.sim.scanner.engine import (
    HidScannerSimulator,
    KeyboardScannerSimulator,
    ScannerSimulator,
    SerialScannerSimulator,
)

__all__ = ["HidScannerSimulator", "KeyboardScannerSimulator", "ScannerSimulator", "SerialScannerSimulator"]
