"""The command line that all simulators of terminals share."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from drivers.sim.program import Program, Tls, add_lines
from drivers.sim.terminal import TEST_AMOUNTS, TerminalSimulator
from drivers.transport.tcp import open_tcp
from hubd.ports import ByteStream


def terminal_parser(module: str, what: str, service: str) -> argparse.ArgumentParser:
    """Arguments that every simulated terminal takes; `service` is the mDNS type under which it may be announced."""
    amounts = ", ".join(f"{ending:02d} {meaning}" for ending, meaning in TEST_AMOUNTS.items())
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=f"{what} Prints one JSON line with its address when it is ready.",
        epilog=f"Amounts by their last two digits: {amounts}; all others are approved.",
    )
    add_lines(parser)
    parser.add_argument("--state-file", type=Path, help="the terminal's books, one JSON line a change")
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="unix socket for commands, one JSON line each")
    parser.add_argument("--mdns", default="", metavar="NAME", help=f"announce it as {service} under this name")
    parser.add_argument("--serial-number", default="", metavar="TEXT", help="what the announcement tells as its id")
    parser.add_argument("--host-reachable", dest="host_up", action="store_true", default=True)
    parser.add_argument("--no-host", dest="host_up", action="store_false", help="begin without a line to the host")
    parser.add_argument("--terminal-id", default="52500038", help="eight digits")
    parser.add_argument("--floor-limit", type=int, default=5000, metavar="MINOR", help="approved without the host")
    parser.add_argument("--think-s", type=float, default=0.0, help="seconds that customer and host take")
    parser.add_argument("--keeps-going", action="store_true", help="finish a payment although the hub's line is lost")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=VALUE", help="begin with this fault")
    parser.set_defaults(service=service)
    return parser


async def run_terminal(simulator: TerminalSimulator, arguments: argparse.Namespace, tls: Tls | None = None) -> None:
    """Run until SIGTERM. Raises ValueError for an unknown fault."""
    simulator.host_up = arguments.host_up
    for fault in arguments.fault:
        name, _, value = fault.partition("=")
        simulator.faults.set(name, json.loads(value or "true"))
    await Program(simulator, partial(_called_by, simulator)).run(
        tcp=arguments.tcp,
        pty=arguments.pty,
        device=arguments.device,
        control=arguments.control,
        mdns=f"{arguments.service}.local/{arguments.mdns}" if arguments.mdns else "",
        txt={"id": arguments.serial_number} if arguments.serial_number else {},
        tls=tls,
    )


def _called_by(simulator: TerminalSimulator, host: str) -> None:
    async def dial(port: int) -> ByteStream:
        return await open_tcp(f"tcp://{host}:{port}")

    simulator.dial = dial
