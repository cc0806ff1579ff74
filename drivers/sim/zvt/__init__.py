"""A ZVT terminal: its engine, its ledger, its faults, and the program around them (`python -m drivers.sim.zvt`)."""

from drivers.sim.zvt.engine import SimulatorOptions, ZvtSimulator
from drivers.sim.zvt.ledger import Ledger, Transaction, TransactionState

__all__ = ["Ledger", "SimulatorOptions", "Transaction", "TransactionState", "ZvtSimulator"]
