"""`python -m drivers.sim.zvt`: a ZVT terminal on a TCP port or a pseudo-terminal."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from drivers.sim.program import Program
from drivers.sim.zvt.engine import TEST_AMOUNTS, SimulatorOptions, ZvtSimulator
from drivers.sim.zvt.ledger import Ledger
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    amounts = ", ".join(f"{ending:02d} {meaning}" for ending, meaning in TEST_AMOUNTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m drivers.sim.zvt",
        description="A simulated ZVT terminal. Prints one JSON line with its address when it is ready.",
        epilog=f"Amounts by their last two digits: {amounts}; all others are approved.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--tcp", metavar="HOST:PORT", help="listen here; port 0 takes a free one")
    where.add_argument("--pty", metavar="LINK", type=Path, help="open a pseudo-terminal and link it here")
    parser.add_argument("--state-file", type=Path, help="the terminal's books, one JSON line a change")
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="unix socket for commands, one JSON line each")
    parser.add_argument("--mdns", default="", metavar="NAME", help="announce the terminal as _zvt._tcp under this name")
    parser.add_argument("--serial-number", default="", metavar="TEXT", help="what the announcement tells as its id")
    parser.add_argument("--host-reachable", dest="host_up", action="store_true", default=True)
    parser.add_argument("--no-host", dest="host_up", action="store_false", help="begin without a line to the host")
    parser.add_argument("--terminal-id", default="52500038", help="eight digits")
    parser.add_argument("--password", default="000000", help="six digits")
    parser.add_argument("--floor-limit", type=int, default=5000, metavar="MINOR", help="approved without the host")
    parser.add_argument("--think-s", type=float, default=0.0, help="seconds that customer and host take")
    parser.add_argument("--print-blocks", action="store_true", help="send receipts at once (06 D3)")
    parser.add_argument("--print-reference", action="store_true", help="print the payment's id on receipts")
    parser.add_argument("--keeps-going", action="store_true", help="finish a payment although the hub's line is lost")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=VALUE", help="begin with this fault")
    return parser.parse_args(arguments)


def build(arguments: argparse.Namespace) -> ZvtSimulator:
    """The terminal as the arguments describe it; raises ValueError for an unknown fault."""
    options = SimulatorOptions(
        terminal_id=arguments.terminal_id,
        password=arguments.password,
        floor_limit_minor=arguments.floor_limit,
        think_s=arguments.think_s,
        print_blocks=arguments.print_blocks,
        print_reference=arguments.print_reference,
        keeps_going=arguments.keeps_going,
    )
    simulator = ZvtSimulator(system_runtime(), options, Ledger(arguments.state_file))
    simulator.host_up = arguments.host_up
    for fault in arguments.fault:
        name, _, value = fault.partition("=")
        simulator.faults.set(name, json.loads(value or "true"))
    return simulator


async def main() -> None:
    """Run until SIGTERM."""
    arguments = parse()
    await Program(build(arguments)).run(
        tcp=arguments.tcp or "",
        pty=arguments.pty,
        control=arguments.control,
        mdns=f"_zvt._tcp.local/{arguments.mdns}" if arguments.mdns else "",
        txt={"id": arguments.serial_number} if arguments.serial_number else {},
    )


if __name__ == "__main__":
    asyncio.run(main())
