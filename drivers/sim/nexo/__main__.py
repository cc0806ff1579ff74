"""`python -m drivers.sim.nexo`: an Adyen terminal in the shop's network, with TLS or plain."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from urllib.parse import urlencode

from drivers.sim.command import run_terminal, terminal_parser
from drivers.sim.ledger import Ledger
from drivers.sim.nexo.certificates import DOMAIN, ROOTS, terminal_tls
from drivers.sim.nexo.engine import NexoSimulator, SimulatorOptions
from drivers.sim.program import Tls
from hubd.runtime import system_runtime


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Arguments of the program; exits with 2 and a sentence when they are wrong."""
    plain = SimulatorOptions()
    parser = terminal_parser("drivers.sim.nexo", "A simulated Adyen terminal (nexo, local).", "_adyen-sim._tcp")
    parser.add_argument("--tls-directory", type=Path, help="speak TLS; root and certificate are made here")
    parser.add_argument("--common-name", default="", help="of the certificate; otherwise POIID and Adyen's domain")
    parser.add_argument("--key-identifier", default=plain.key_identifier, help="of the shared key")
    parser.add_argument("--key-version", type=int, default=plain.key_version, help="of the shared key")
    parser.add_argument("--passphrase", default=plain.passphrase, help="of the shared key")
    parser.add_argument("--closes-after-answer", action="store_true", help="end the connection after each answer")
    found = parser.parse_args(arguments)
    if found.pty:
        parser.error("an Adyen terminal has no serial line")
    return found


def build(arguments: argparse.Namespace) -> NexoSimulator:
    """The terminal as the arguments describe it."""
    options = SimulatorOptions(
        terminal_id=arguments.terminal_id,
        floor_limit_minor=arguments.floor_limit,
        think_s=arguments.think_s,
        keeps_going=arguments.keeps_going,
        key_identifier=arguments.key_identifier,
        key_version=arguments.key_version,
        passphrase=arguments.passphrase,
        closes_after_answer=arguments.closes_after_answer,
    )
    return NexoSimulator(system_runtime(), options, Ledger(arguments.state_file))


def tls_of(arguments: argparse.Namespace, poiid: str) -> Tls | None:
    """The terminal's certificate, made on first use; None without TLS."""
    directory: Path | None = arguments.tls_directory
    if directory is None:
        return None
    name = arguments.common_name or f"{poiid}.{DOMAIN}"
    context = terminal_tls(directory, name, system_runtime().clock.now_us())
    return Tls(context, urlencode({"roots": (directory / ROOTS).absolute(), "poiid": poiid}))


if __name__ == "__main__":
    parsed = parse()
    simulator = build(parsed)
    asyncio.run(run_terminal(simulator, parsed, tls_of(parsed, simulator.options.poiid)))
