"""`python -m drivers.sim.escpos`: a receipt printer on a TCP port or a pseudo-terminal."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from drivers.sim.escpos.engine import EscposSimulator, PrinterOptions
from drivers.sim.program import Program, add_lines
from hubd.runtime import system_runtime

SERVICE = "_pdl-datastream._tcp"
MODEL = "hubd simulated ESC/POS receipt printer"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m drivers.sim.escpos",
        description="A simulated ESC/POS receipt printer. Prints one JSON line with its address when it is ready.",
    )
    add_lines(parser)
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="unix socket for commands, one JSON line each")
    parser.add_argument("--mdns", default="", metavar="NAME", help=f"announce it as {SERVICE} under this name")
    parser.add_argument("--model", default=MODEL, metavar="TEXT", help="what the announcement calls it; may be empty")
    parser.add_argument("--serial-number", default="", metavar="TEXT", help="what the announcement tells as its id")
    parser.add_argument("--columns", type=int, default=42, help="characters a line")
    parser.add_argument("--paper-lines", type=int, default=4000, help="lines of paper on the roll")
    parser.add_argument("--line-s", type=float, default=0.03, help="seconds that a line takes")
    parser.add_argument("--no-status", dest="status", action="store_false", help="never answer")
    parser.add_argument("--no-paper-status", dest="paper_status", action="store_false", help="do not know GS r")
    parser.add_argument("--no-process-ids", dest="process_ids", action="store_false", help="do not know GS ( H")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=VALUE", help="begin with this fault")
    return parser.parse_args(arguments)


def build(arguments: argparse.Namespace) -> EscposSimulator:
    """The printer as the arguments describe it. Raises ValueError for an unknown fault."""
    options = PrinterOptions(
        columns=arguments.columns,
        paper_lines=arguments.paper_lines,
        line_s=arguments.line_s,
        status=arguments.status,
        paper_status=arguments.paper_status,
        process_ids=arguments.process_ids,
    )
    made = EscposSimulator(system_runtime(), options)
    for fault in arguments.fault:
        name, _, value = fault.partition("=")
        made.faults.set(name, json.loads(value or "true"))
    return made


async def run(arguments: argparse.Namespace, stop: asyncio.Event | None = None) -> None:
    """Run until SIGTERM or `stop`."""
    await Program(build(arguments)).run(
        tcp=arguments.tcp,
        pty=arguments.pty,
        device=arguments.device,
        control=arguments.control,
        mdns=f"{SERVICE}.local/{arguments.mdns}" if arguments.mdns else "",
        txt={name: told for name, told in (("ty", arguments.model), ("id", arguments.serial_number)) if told},
        stop=stop,
    )


if __name__ == "__main__":
    asyncio.run(run(parse()))
