"""`python -m drivers.sim.opi`: an OPI terminal on a TCP port, which calls the hub's device port back."""

from __future__ import annotations

import argparse
import asyncio

from drivers.sim.command import run_terminal, terminal_parser
from drivers.sim.ledger import Ledger
from drivers.sim.opi.engine import OpiSimulator, SimulatorOptions
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    parser = terminal_parser("drivers.sim.opi", "A simulated OPI terminal.", "_opi._tcp")
    parser.add_argument("--device-port", type=int, default=4102, help="port of the hub for display and receipts")
    parser.add_argument("--hangs-up", action="store_true", help="close the line after each answer")
    found = parser.parse_args(arguments)
    if found.pty:
        parser.error("OPI has no serial line: use --tcp")
    return found


def build(arguments: argparse.Namespace) -> OpiSimulator:
    """The terminal as the arguments describe it."""
    options = SimulatorOptions(
        terminal_id=arguments.terminal_id,
        floor_limit_minor=arguments.floor_limit,
        think_s=arguments.think_s,
        keeps_going=arguments.keeps_going,
        device_port=arguments.device_port,
        hangs_up=arguments.hangs_up,
    )
    return OpiSimulator(system_runtime(), options, Ledger(arguments.state_file))


if __name__ == "__main__":
    parsed = parse()
    asyncio.run(run_terminal(build(parsed), parsed))
