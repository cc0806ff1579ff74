"""`python -m drivers.sim.caisse_ap`: a Caisse-AP terminal on a TCP port."""

from __future__ import annotations

import argparse
import asyncio

from drivers.sim.caisse_ap.engine import CaisseApSimulator, LineHabit, SimulatorOptions
from drivers.sim.command import run_terminal, terminal_parser
from drivers.sim.ledger import Ledger
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    parser = terminal_parser("drivers.sim.caisse_ap", "A simulated Caisse-AP terminal.", "")
    parser.add_argument(
        "--lines",
        type=LineHabit,
        choices=list(LineHabit),
        default=LineHabit.KEPT,
        help="what becomes of a line behind an answer: kept, closed by the terminal, or kept and never read again",
    )
    parsed = parser.parse_args(arguments)
    if parsed.pty or parsed.mdns:
        parser.error("Caisse-AP over IP has no serial line and no announcement: use --tcp")
    return parsed


def build(arguments: argparse.Namespace) -> CaisseApSimulator:
    """The terminal as the arguments describe it."""
    options = SimulatorOptions(
        terminal_id=arguments.terminal_id,
        floor_limit_minor=arguments.floor_limit,
        think_s=arguments.think_s,
        keeps_going=arguments.keeps_going,
        lines=arguments.lines,
    )
    return CaisseApSimulator(system_runtime(), options, Ledger(arguments.state_file))


if __name__ == "__main__":
    parsed = parse()
    asyncio.run(run_terminal(build(parsed), parsed))
