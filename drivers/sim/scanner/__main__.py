"""`python -m drivers.sim.scanner`: a barcode scanner on a TCP port or a pseudo-terminal."""

from __future__ import annotations

import argparse
import asyncio

from drivers.keyboard_layouts import LAYOUTS
from drivers.sim.peripheral import peripheral_parser, run_peripheral
from drivers.sim.scanner.engine import (
    ENDINGS,
    HidScannerSimulator,
    KeyboardScannerSimulator,
    ScannerSimulator,
    SerialScannerSimulator,
)
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    parser = peripheral_parser("drivers.sim.scanner", "A simulated barcode scanner.")
    parser.add_argument("--mode", choices=("serial", "hid", "keyboard"), default="serial", help="how it speaks")
    parser.add_argument("--end", choices=sorted(ENDINGS), default="cr", help="how it ends a code (serial)")
    parser.add_argument("--no-identifiers", dest="identifiers", action="store_false", help="no AIM prefix (serial)")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="us", help="for which layout it types (keyboard)")
    return parser.parse_args(arguments)


def build(arguments: argparse.Namespace) -> ScannerSimulator:
    """The scanner as the arguments describe it."""
    runtime = system_runtime()
    if arguments.mode == "hid":
        return HidScannerSimulator(runtime)
    if arguments.mode == "keyboard":
        return KeyboardScannerSimulator(runtime, arguments.layout)
    return SerialScannerSimulator(runtime, arguments.end, identifiers=arguments.identifiers)


async def run(arguments: argparse.Namespace, stop: asyncio.Event | None = None) -> None:
    """Run until SIGTERM or `stop`."""
    await run_peripheral(build(arguments), arguments, stop=stop)


if __name__ == "__main__":
    asyncio.run(run(parse()))
