"""Puts the demo store together and runs it until it is stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from msgspec import structs

from hubd.cli.config import toml_value
from hubd.cli.demo_places import control_socket, runtime_directory
from hubd.cli.logs import LOG_FILE
from hubd.config import Config
from hubd.config_sections import ApiConfig, CloudConfig, DiscoveryConfig, PathsConfig, TerminalConfig
from hubd.daemon import Daemon, Outside, running_hub
from hubd.demo import shop, simulators
from hubd.demo.cloud import DemoAddress, demo_cloud, enrol
from hubd.demo.control import Control, Story
from hubd.demo.network import LOOPBACK, demo_network
from hubd.demo.paper_page import PaperPage
from hubd.demo.simulators import PRINTER, Simulated, SimulatorProcess
from hubd.errors import ConfigError, InvalidValueError
from hubd.identity import load_or_create_key
from hubd.logs import set_up_logging
from hubd.runtime import Runtime, system_runtime
from hubd.supervisor import FOREVER, Supervisor, supervision
from local_api.server import Door, DoorServer, tcp_sockets
from sync.cloud.cloud import ReferenceCloud

log = logging.getLogger(__name__)

STATE_FILE = "demo.json"
CONFIG_FILE = "hubd.toml"
LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log that has grown beyond this begins anew at the next start; the one before is kept beside it."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What `hubd demo` was asked for."""

    directory: Path
    https_port: int = 8443
    http_port: int = 8080
    paper_port: int = 8081
    devices: tuple[TerminalConfig, ...] = ()
    """Further ones at fixed addresses, such as the simulator of a new driver."""


def devices_of(texts: Sequence[str]) -> tuple[TerminalConfig, ...]:
    """Devices as a person names them, each `DRIVER ADDRESS`. Raises InvalidValueError `demo.device_unclear`."""
    found = []
    for text in texts:
        driver, _, address = text.strip().partition(" ")
        if "://" not in address:
            raise InvalidValueError(
                "demo.device_unclear",
                "A device is named by its driver and its address.",
                remedy="For example: --device 'toledo8217 tcp://127.0.0.1:4001'.",
            )
        found.append(TerminalConfig(address.strip(), driver, driver))
    return tuple(found)


def demo_config(settings: DemoSettings, devices: list[Simulated]) -> Config:
    """The hub's configuration. It listens on this machine only: the demo's PIN is printed for all to read."""
    return Config(
        paths=PathsConfig(settings.directory, runtime_directory(settings.directory)),
        api=ApiConfig(settings.https_port, settings.http_port, (LOOPBACK,)),
        cloud=CloudConfig(enabled=True),
        discovery=DiscoveryConfig(mdns=True, interfaces=(LOOPBACK,)),
        terminals=(
            *(TerminalConfig(one.address, one.driver, one.name) for one in devices if one.address),
            *settings.devices,
        ),
    )


def config_toml(config: Config) -> str:
    """The same as a file, so that `hubctl --config` finds the demo's hub."""
    parts = [
        "# Written by `hubd demo`, so that `hubctl --config` of this file talks to it.",
        f"[paths]\ndata = {toml_value(str(config.paths.data))}\nruntime = {toml_value(str(config.paths.runtime))}",
        f"[api]\nhttps_port = {config.api.https_port}\nhttp_port = {config.api.http_port}",
        f"addresses = {toml_value(config.api.addresses)}",
        f"[discovery]\ninterfaces = {toml_value(config.discovery.interfaces)}",
    ]
    for terminal in config.terminals:
        parts.append(
            f"[[terminals]]\naddress = {toml_value(terminal.address)}\nname = {toml_value(terminal.name)}\n"
            f"driver = {toml_value(terminal.driver)}"
        )
    return "\n".join(parts) + "\n"


def _prepare(settings: DemoSettings, runtime: Runtime) -> tuple[Config, list[SimulatorProcess]]:
    """Directories, the serial number that stays the devices', the log file."""
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    state_file = settings.directory / STATE_FILE
    state = json.loads(state_file.read_text("utf-8")) if state_file.exists() else {}
    # Another demo on this machine announces its devices under the same names; the number tells whose they are.
    state.setdefault("serial_number", f"DEMO-{runtime.ids.token_bytes(4).hex()}")
    state_file.write_text(json.dumps(state) + "\n", "utf-8")
    run = runtime_directory(settings.directory)
    port = int(state.get("terminal_port", 0))  # of a demo that was begun when its terminal had a fixed address
    processes = simulators.simulated_shop(settings.directory, run, str(state["serial_number"]), port)
    config = demo_config(settings, simulators.all_devices(processes))
    config.paths.runtime.mkdir(parents=True, exist_ok=True, mode=0o700)
    log_file = settings.directory / LOG_FILE
    if log_file.exists() and log_file.stat().st_size > LOG_BYTES_MAX:
        log_file.replace(log_file.with_suffix(".log.1"))
    return config, processes


def _log_to_file(config: Config) -> IO[str]:
    stream = (config.paths.data / LOG_FILE).open("a", encoding="utf-8", buffering=1)
    set_up_logging(config.log.level, {}, stream)
    return stream


async def serve(settings: DemoSettings, stop: asyncio.Event, say: Callable[[str], None]) -> None:
    """Run the demo store until `stop` is set; `say` prints a line for the person who started it."""
    runtime = system_runtime()
    config, processes = await asyncio.to_thread(_prepare, settings, runtime)
    devices = simulators.all_devices(processes)
    log_stream = await asyncio.to_thread(_log_to_file, config)
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(demo_network(runtime))
        cloud = await stack.enter_async_context(demo_cloud(settings.directory / "cloud", runtime))
        # The devices and the cloud outlive the hub: it may still ask them something while it stops.
        outside = await stack.enter_async_context(supervision(runtime))
        outside.start("demo.cloud", cloud.run, FOREVER)
        await stack.enter_async_context(_plugged_in(outside, processes, runtime, log_stream))
        address = DemoAddress(runtime)

        async def started(daemon: Daemon) -> None:
            await _open_shop(daemon, devices, runtime, cloud.cloud, address)

        reality = Outside(link=cloud, address=address, probes=network.probes)
        daemon = await stack.enter_async_context(running_hub(config, runtime, None, reality, started))
        story = Story(network, cloud, devices, daemon.services.outages, daemon.sync, runtime.clock)
        control = Control(story, control_socket(settings.directory))
        daemon.hub.supervisor.start("demo.control", control.run, FOREVER)
        printer = next(device for device in devices if device.driver == PRINTER)
        page = PaperPage(partial(simulators.command, printer, runtime.clock), daemon.http_port, demo_command(settings))
        paper = DoorServer(Door("demo.paper", page, paper_sockets(settings.paper_port)))
        stack.callback(paper.close)

        async def asked() -> None:
            paper.stop()

        outside.start("demo.paper", paper.run, FOREVER, ask_to_stop=asked)
        for line in welcome(settings, daemon, paper.door.port):
            say(line)
        for name in await shop.not_found(daemon, devices):
            say(f"{name} has not been found over mDNS yet; it is taken into use as soon as it is.")
        await stop.wait()
        say("Stopping; the next start goes on from here.")


@asynccontextmanager
async def _plugged_in(
    outside: Supervisor, processes: list[SimulatorProcess], runtime: Runtime, log_stream: IO[str]
) -> AsyncIterator[None]:
    """The simulators, started and stopped all at once: one after the other a person waits for each of them."""
    ready = {process.name: asyncio.Event() for process in processes}
    workers = []
    try:
        for process in processes:
            run = partial(simulators.run_simulator, process, runtime.clock, ready[process.name], log_stream)
            workers.append(outside.start(f"demo.{process.name}", run))
        async with runtime.clock.timeout(simulators.READY_TIMEOUT_S):
            for one in ready.values():
                await one.wait()
        yield
    finally:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(outside.stop(worker), name=f"stop:{worker.name}")


def paper_sockets(port: int) -> list[socket.socket]:
    """Where the paper is shown; somewhere else when that port is taken, because nothing depends on it."""
    try:
        return tcp_sockets([LOOPBACK], port)
    except ConfigError:
        return tcp_sockets([LOOPBACK], 0)


async def _open_shop(
    daemon: Daemon,
    devices: list[Simulated],
    runtime: Runtime,
    cloud: ReferenceCloud,
    address: DemoAddress,
) -> None:
    """Set up, enrol and pair, each once; then let the hub talk to its cloud."""
    config = daemon.config
    # With the ports that were really taken, so that hubctl can look at them.
    shown = replace(config, api=structs.replace(config.api, https_port=daemon.https_port, http_port=daemon.http_port))
    await asyncio.to_thread((config.paths.data / CONFIG_FILE).write_text, config_toml(shown), "utf-8")
    place = await shop.set_up(daemon, devices, config.paths.data)
    key_file = config.paths.keys / "hub.key"
    signer = await asyncio.to_thread(load_or_create_key, key_file, runtime.ids.token_bytes)
    await enrol(daemon.services.db, cloud, signer, runtime, place.location)
    address.known(signer.hub_id.hex())
    if daemon.sync is not None:
        daemon.sync.wake()


def hubctl_command() -> str:
    """How a person who stands here calls hubctl: by its name where the shell finds it, else by its place."""
    if shutil.which("hubctl"):
        return "hubctl"
    beside, here = Path(sys.prefix) / "bin/hubctl", Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


def demo_command(settings: DemoSettings) -> str:
    """What a person who stands here types before a word of `hubctl demo`."""
    elsewhere = "" if settings.directory == Path.cwd() / ".demo" else f" --dir {settings.directory}"
    return f"{hubctl_command()} demo{elsewhere}"


def welcome(settings: DemoSettings, daemon: Daemon, paper_port: int) -> list[str]:
    """What the person who started it reads."""
    config_file = settings.directory / CONFIG_FILE
    hubctl, play = hubctl_command(), demo_command(settings)
    return [
        "",
        "The demo store is open.",
        f"  Page       http://localhost:{daemon.http_port}/   or https://localhost:{daemon.https_port}/",
        f"  Paper      http://localhost:{paper_port}/   what the receipt printer has printed",
        f"  API        http://localhost:{daemon.http_port}/docs",
        f"  Sign in    {shop.OWNER_NAME} (owner), PIN {shop.OWNER_PIN};"
        f" {shop.CASHIER_NAME} (cashier), PIN {shop.CASHIER_PIN}",
        f"  Till       paired; its token is in {settings.directory / shop.TILL_FILE}",
        f"  Backups    opened by the recovery code in {settings.directory / shop.RECOVERY_FILE}",
        "  Play       in another terminal:",
        f"               {play} sale 12.00         (ending 05 declines; 11 is stored)",
        f"               {play} outage network     then sell on, then",
        f"               {play} restore",
        f"               {play} scan 4006381333931",
        f"               {play} weigh 350",
        f"               {play} unplug scale       and look at the page; also printer, scanner,",
        "                                                        'Terminal 1', 'Terminal 2'; then replug",
        f"  Look       {hubctl} --config {config_file} status",
        f"  Statement  {hubctl} --config {config_file} outages statement",
        "  Stop       Ctrl-C; the next start goes on from here.",
        "",
    ]
