"""`python -m drivers.sim.zvt`: a ZVT terminal on a TCP port or a pseudo-terminal."""

from __future__ import annotations

import argparse
import asyncio

from drivers.sim.command import run_terminal, terminal_parser
from drivers.sim.ledger import Ledger
from drivers.sim.zvt.engine import SimulatorOptions, ZvtSimulator
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    parser = terminal_parser("drivers.sim.zvt", "A simulated ZVT terminal.", "_zvt._tcp")
    parser.add_argument("--password", default="000000", help="six digits")
    parser.add_argument("--print-blocks", action="store_true", help="send receipts at once (06 D3)")
    parser.add_argument("--print-reference", action="store_true", help="print the payment's id on receipts")
    return parser.parse_args(arguments)


def build(arguments: argparse.Namespace) -> ZvtSimulator:
    """The terminal as the arguments describe it."""
    options = SimulatorOptions(
        terminal_id=arguments.terminal_id,
        password=arguments.password,
        floor_limit_minor=arguments.floor_limit,
        think_s=arguments.think_s,
        print_blocks=arguments.print_blocks,
        print_reference=arguments.print_reference,
        keeps_going=arguments.keeps_going,
    )
    return ZvtSimulator(system_runtime(), options, Ledger(arguments.state_file))


if __name__ == "__main__":
    parsed = parse()
    asyncio.run(run_terminal(build(parsed), parsed))
