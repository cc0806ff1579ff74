"""`hubd`, the daemon's command: arguments, configuration, signals, exit codes. What runs is built by `hubd.daemon`.

Exit codes: 0 stopped in order, 1 failed (the service manager starts it anew), 2 usage or configuration (it does not).
The arguments are read by the standard library: loading what `hubctl` reads them with takes a tenth of a start, for
which tills wait.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from hubd import __version__
from hubd.cli.lock import only_one
from hubd.config import Config, load_config
from hubd.errors import ConfigError, HubError
from hubd.logs import set_up_logging

log = logging.getLogger(__name__)

OPEN_FILES_WANTED = 8192
"""Tills, event streams, devices and database files together."""
FAILED = 1
WRONG_CONFIGURATION = 2
RETRIED_CODES = frozenset({"config.port_taken", "config.socket"})
"""Configuration that may come right by itself: another program may end. These exit with 1 and are tried again."""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for: `act`, called with all of this, carries it out. Exits with 2 and a sentence when wrong."""
    parser = argparse.ArgumentParser(
        prog="hubd",
        description="Keep a shop trading when the Internet or the cloud is gone. `hubctl` looks at the hub, `hubd run` "
        "is what the service manager starts.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hubd {__version__}", help="Print it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, act: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=act.__doc__, description=act.__doc__, allow_abbrev=False)
        command.set_defaults(act=act)
        return command

    for command in (add("check-config", check_config), add("run", run)):
        command.add_argument("--config", type=Path, help="hubd.toml; default: where an installed hub has it.")
    store = add("demo", demo)
    store.add_argument("--dir", type=Path, default=Path(".demo"), help="Where the demo store keeps its state.")
    store.add_argument("--https-port", type=int, default=8443, help="Port of page and API; 0: any free one.")
    store.add_argument("--http-port", type=int, default=8080, help="Port without TLS; 0: any free one.")
    store.add_argument(
        "--paper-port", type=int, default=8081, help="Port of the printer's paper; another one if it is taken."
    )
    store.add_argument(
        "--device", action="append", default=[], metavar="'DRIVER ADDRESS'", help="One more device, at a fixed address."
    )
    return parser.parse_args(words)


def check_config(arguments: argparse.Namespace) -> None:
    """Say whether the configuration can be used; start nothing."""
    from sync import enrol_file

    config = load_config(arguments.config)
    files = enrol_file.places(config.paths.data, config.file)
    waiting = [file for file in files if os.access(file.parent, os.X_OK) and enrol_file.read(file)]
    _say("The configuration is good.")
    for one in config.lowered:
        _say(f"{one.key} is {one.given}; {one.used} is used.")
    for file in waiting:
        _say(f"A token waits in {file} for the first contact with the cloud.")


def run(arguments: argparse.Namespace) -> None:
    """Run the hub until SIGTERM or SIGINT."""
    config = load_config(arguments.config)
    prepare_process()
    set_up_logging(config.log.level)
    warn_of_lowered(config)
    with only_one(config.paths.data), without_collector() as started:
        asyncio.run(serve(config, started))


def warn_of_lowered(config: Config) -> None:
    """Name what was written and is not used as it was; an upgrade must not stop a hub over it."""
    for one in config.lowered:
        log.warning("config.lowered", extra={"setting": one.key, "given": one.given, "used": one.used})


def demo(arguments: argparse.Namespace) -> None:
    """Run a whole demo store: hub, cloud, simulated devices; a second start goes on where the first stopped."""
    from hubd.demo import store as demo_store

    prepare_process()
    ports = arguments.https_port, arguments.http_port, arguments.paper_port
    settings = demo_store.DemoSettings(arguments.dir.absolute(), *ports, demo_store.devices_of(arguments.device))
    with only_one(settings.directory):
        asyncio.run(until_stopped(lambda stop: demo_store.serve(settings, stop, _say)))


# -- the process -------------------------------------------------------------------------------------------------------


def prepare_process() -> None:
    """Limits and masks that do not depend on who started us: many files, no core dump with keys, private files."""
    faulthandler.enable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(OPEN_FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.umask(0o077)


@contextmanager
def without_collector() -> Iterator[Callable[[], None]]:
    """No search for garbage until the function that this gives is called, when the hub has started, or on leaving.

    Looking at what imports make takes a fifth of a start and finds nothing. All of that stays as long as the process
    does, so it is set aside: later searches, which stop everything, do not walk through it again.
    """
    gc.disable()

    def started() -> None:
        gc.freeze()
        gc.enable()

    try:
        yield started
    finally:
        gc.enable()


async def until_stopped(body: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `body` with an event that SIGTERM and SIGINT set. A second signal ends the process at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        log.info("hub.asked_to_stop", extra={"signal": number.name})
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    try:
        await body(stop)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def serve(config: Config, started: Callable[[], None]) -> None:
    """Run the hub of this configuration until a signal. `started` is called once it trades."""
    from hubd.daemon import running_hub
    from hubd.runtime import system_runtime
    from hubd.sdnotify import ServiceManager

    async def body(stop: asyncio.Event) -> None:
        async with running_hub(config, system_runtime(), ServiceManager.from_environ()) as daemon:
            started()
            _say(f"hubd {__version__} trades. Page and API: https://localhost:{daemon.https_port}")
            _say(f"On this machine without TLS: http://localhost:{daemon.http_port}  API: …/docs")
            await stop.wait()

    await until_stopped(body)
    log.info("hub.stopped")


def log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody caught goes through the log, which takes card data out, and not straight to standard error."""
    log.critical("hub.failed", exc_info=(kind, error, trace))


def exit_code_of(error: HubError) -> int:
    """2 for what only a person can mend, 1 for what another start may."""
    if isinstance(error, ConfigError) and error.code not in RETRIED_CODES:
        return WRONG_CONFIGURATION
    return FAILED


def main() -> None:
    """Run hubd and leave with its exit code; what nobody caught is logged, and the code is 1."""
    sys.excepthook = log_uncaught
    try:
        arguments = _arguments()
        arguments.act(arguments)
    except HubError as error:
        sys.stderr.write(f"{error.code}: {error.detail}\n" + (f"{error.remedy}\n" if error.remedy else ""))
        log.debug("hub.refused_to_start", extra={"code": error.code})
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.exit(130)
