"""`python -m drivers.sim.scale`: a scale on a TCP port or a pseudo-terminal."""

from __future__ import annotations

import argparse
import asyncio

from drivers.sim.peripheral import peripheral_parser, run_peripheral
from drivers.sim.scale.engine import SCALES, ScaleSimulator
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    parser = peripheral_parser("drivers.sim.scale", "A simulated scale.")
    parser.add_argument("--protocol", choices=sorted(SCALES), default="toledo8217", help="what it speaks")
    parser.add_argument("--grams", type=int, default=0, help="what lies on it at first")
    return parser.parse_args(arguments)


def build(arguments: argparse.Namespace) -> ScaleSimulator:
    """The scale as the arguments describe it."""
    scale = SCALES[arguments.protocol](system_runtime())
    scale.grams = arguments.grams
    return scale


async def run(arguments: argparse.Namespace, stop: asyncio.Event | None = None) -> None:
    """Run until SIGTERM or `stop`."""
    await run_peripheral(build(arguments), arguments, stop=stop)


if __name__ == "__main__":
    asyncio.run(run(parse()))
