"""An Adyen terminal in the shop's network: its engine, its books, and the program around them."""

from drivers.sim.nexo.engine import NexoSimulator, SimulatorOptions

__all__ = ["NexoSimulator", "SimulatorOptions"]
