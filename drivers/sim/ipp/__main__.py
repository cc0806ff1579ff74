"""`python -m drivers.sim.ipp`: an IPP printer on a TCP port."""

from __future__ import annotations

import argparse
import asyncio

from drivers.sim.ipp.engine import IppOptions, IppSimulator
from drivers.sim.peripheral import peripheral_parser, run_peripheral
from hubd.runtime import system_runtime

SERVICE = "_ipp._tcp"
PATH = "ipp/print"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    usual = IppOptions()
    parser = peripheral_parser("drivers.sim.ipp", "A simulated IPP printer.")
    parser.add_argument("--mdns", default="", metavar="NAME", help=f"announce it as {SERVICE} under this name")
    parser.add_argument("--uuid", default=usual.uuid, help="what stays with it")
    parser.add_argument("--format", action="append", metavar="TYPE", help="document format that it takes; repeat")
    parser.add_argument("--media", default=usual.media, help="the paper in it")
    parser.add_argument("--paper-lines", type=int, default=usual.paper_lines, help="lines of text that its paper holds")
    parser.add_argument("--line-s", type=float, default=0.01, help="seconds that a line takes")
    return parser.parse_args(arguments)


def build(arguments: argparse.Namespace) -> IppSimulator:
    """The printer as the arguments describe it."""
    options = IppOptions(
        formats=tuple(arguments.format or IppOptions().formats),
        media=arguments.media,
        uuid=arguments.uuid,
        paper_lines=arguments.paper_lines,
        line_s=arguments.line_s,
    )
    return IppSimulator(system_runtime(), options)


if __name__ == "__main__":
    parsed = parse()
    simulator = build(parsed)
    txt = {
        "txtvers": "1",
        "rp": PATH,
        "ty": "hubd simulated printer",
        "pdl": ",".join(simulator.options.formats),
        "UUID": parsed.uuid,
    }
    name = f"{SERVICE}.local/{parsed.mdns}" if parsed.mdns else ""
    asyncio.run(run_peripheral(simulator, parsed, mdns=name, txt=txt))
