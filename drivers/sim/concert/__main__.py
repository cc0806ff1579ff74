"""`python -m drivers.sim.concert`: a Caisse Concert terminal on a TCP port or a pseudo-terminal."""

from __future__ import annotations

import argparse
import asyncio

from drivers.sim.command import run_terminal, terminal_parser
from drivers.sim.concert.engine import ConcertSimulator
from drivers.sim.ledger import Ledger
from drivers.sim.terminal import TerminalOptions
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    parser = terminal_parser("drivers.sim.concert", "A simulated Caisse Concert terminal.", "_concert._tcp")
    return parser.parse_args(arguments)


def build(arguments: argparse.Namespace) -> ConcertSimulator:
    """The terminal as the arguments describe it."""
    options = TerminalOptions(
        terminal_id=arguments.terminal_id,
        floor_limit_minor=arguments.floor_limit,
        think_s=arguments.think_s,
        keeps_going=arguments.keeps_going,
    )
    return ConcertSimulator(system_runtime(), options, Ledger(arguments.state_file))


if __name__ == "__main__":
    parsed = parse()
    asyncio.run(run_terminal(build(parsed), parsed))
