"""`python -m drivers.sim.modem`: a GSM modem on a TCP port or a pseudo-terminal."""

from __future__ import annotations

import argparse
import asyncio

from drivers.sim.modem.engine import ModemSimulator
from drivers.sim.peripheral import peripheral_parser, run_peripheral
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    return peripheral_parser("drivers.sim.modem", "A simulated GSM modem.").parse_args(arguments)


if __name__ == "__main__":
    parsed = parse()
    asyncio.run(run_peripheral(ModemSimulator(system_runtime()), parsed))
