"""`python -m drivers.sim.poslink`: a POSLink terminal on a TCP port, asked plainly or by HTTP."""

from __future__ import annotations

import argparse
import asyncio

from drivers.sim.command import run_terminal, terminal_parser
from drivers.sim.ledger import Ledger
from drivers.sim.poslink.engine import PoslinkSimulator, SimulatorOptions
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    parser = terminal_parser("drivers.sim.poslink", "A simulated POSLink terminal.", "_poslink._tcp")
    parser.add_argument("--currency", default="USD", help="what it counts in")
    parser.add_argument("--length", action="store_true", help="put the length behind STX")
    parser.add_argument("--hangs-up", action="store_true", help="end the line after every answer")
    return parser.parse_args(arguments)


def build(arguments: argparse.Namespace) -> PoslinkSimulator:
    """The terminal as the arguments describe it."""
    options = SimulatorOptions(
        terminal_id=arguments.terminal_id,
        currency=arguments.currency,
        floor_limit_minor=arguments.floor_limit,
        think_s=arguments.think_s,
        keeps_going=arguments.keeps_going,
        with_length=arguments.length,
        hangs_up=arguments.hangs_up,
    )
    return PoslinkSimulator(system_runtime(), options, Ledger(arguments.state_file))


if __name__ == "__main__":
    parsed = parse()
    asyncio.run(run_terminal(build(parsed), parsed))
