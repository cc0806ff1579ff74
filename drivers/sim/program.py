"""What makes a simulator a program: a TCP port, a pseudo-terminal or a node; a control socket; a JSON line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import sys
import tty
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from zeroconf import IPVersion, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from drivers.sim.node import Hold, NodeStream
from drivers.transport.stream import AsyncioStream
from drivers.transport.tcp import prepare_socket
from hubd.ports import ByteStream

CONTROL_LINE_BYTES_MAX = 64 * 1024
PTY_READ_BYTES_MAX = 4096


class Engine(Protocol):
    """A device without its line."""

    plugged: bool

    async def serve(self, stream: ByteStream, *, serial: bool = False) -> None:
        """Talk on one line until it is lost."""
        ...

    async def control(self, request: dict[str, object]) -> dict[str, object]:
        """One control command; raises ValueError for what is not understood."""
        ...


def add_lines(parser: argparse.ArgumentParser) -> None:
    """The arguments that say on what line a simulator speaks."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--tcp", metavar="HOST:PORT", default="", help="listen here; port 0 takes a free one")
    where.add_argument("--pty", metavar="LINK", type=Path, help="open a pseudo-terminal and link it here")
    where.add_argument(
        "--device", metavar="NODE", type=Path, help="the device's side of a USB gadget: /dev/ttyGS0, /dev/g_printer0, …"
    )


@dataclass(frozen=True, slots=True)
class Tls:
    """The device's certificate, and what the hub's address must say to accept it."""

    context: ssl.SSLContext
    query: str


class PtyStream:
    """The device's end of a pseudo-terminal. It keeps the other end open, so a hub may come and go."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._waiting: set[asyncio.Event] = set()

    async def _until(self, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
        """Wait until the line can be read or written, or is closed."""
        ready = asyncio.Event()
        self._waiting.add(ready)
        add(self._master, ready.set)
        try:
            await ready.wait()
        finally:
            self._waiting.discard(ready)
            if not self._closed:
                remove(self._master)

    async def read(self, max_bytes: int) -> bytes:
        """See `ByteStream`."""
        while not self._closed:
            try:
                return os.read(self._master, min(max_bytes, PTY_READ_BYTES_MAX))
            except BlockingIOError:
                await self._until(self._loop.add_reader, self._loop.remove_reader)
        raise ConnectionResetError("the line is unplugged")

    async def write(self, data: bytes) -> None:
        """See `ByteStream`."""
        while data:
            if self._closed:
                raise ConnectionResetError("the line is unplugged")
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                await self._until(self._loop.add_writer, self._loop.remove_writer)

    async def close(self) -> None:
        """Hang up: the hub's end reports an error."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        for waiting in self._waiting:
            waiting.set()
        os.close(self._master)
        os.close(self._slave)


class Program:
    """Runs an engine on one address until it is told to stop; `on_peer` hears from which host each line came."""

    def __init__(self, engine: Engine, on_peer: Callable[[str], None] = lambda _host: None) -> None:
        self._engine = engine
        self._on_peer = on_peer
        self._server: asyncio.Server | None = None
        self._plug = asyncio.Event()
        self._tcp: tuple[str, int] | None = None
        self._tls: Tls | None = None
        self._hold: Hold | None = None

    async def run(
        self,
        *,
        tcp: str = "",
        pty: Path | None = None,
        device: Path | None = None,
        control: Path | None = None,
        mdns: str = "",
        txt: Mapping[str, str] = MappingProxyType({}),
        tls: Tls | None = None,
        stop: asyncio.Event | None = None,
    ) -> None:
        """Serve until `stop`, which SIGTERM and SIGINT set unless it is given.

        `mdns` is `service/name`, announced with `txt`; `tls` goes over TCP.
        """
        self._tls = tls
        stop = stop or asked_to_stop()
        async with contextlib.AsyncExitStack() as stack:
            if control is not None:
                _remove(control)
                server = await asyncio.start_unix_server(self._control, control, limit=CONTROL_LINE_BYTES_MAX)
                stack.callback(server.close)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            if pty is not None:
                first = self._make_pty(pty)
                line = group.create_task(self._serve_pty(first, pty), name="simulator:pty")
                stack.callback(line.cancel)
                address = f"serial://{_absolute(pty)}?baud=115200"
            elif device is not None:
                self._hold = Hold()
                line = group.create_task(self._serve_node(device, self._hold), name="simulator:node")
                stack.callback(line.cancel)
                address = str(device)
            else:
                address = await self._listen(tcp)
                stack.callback(lambda: self._server.close() if self._server else None)
            if mdns and self._tcp:
                await stack.enter_async_context(_announced(mdns, *self._tcp, txt))
            ready = {"address": address, "control": str(control or ""), "pid": os.getpid()}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            await stop.wait()

    # -- TCP -----------------------------------------------------------------------------------------------------------

    async def _listen(self, address: str) -> str:
        host, _, port = address.rpartition(":")
        self._tcp = (host, int(port))
        await self._open_port()
        place = f"{self._tcp[0]}:{self._tcp[1]}"
        return f"tls://{place}?{self._tls.query}" if self._tls else f"tcp://{place}"

    async def _open_port(self) -> None:
        assert self._tcp is not None
        context = self._tls.context if self._tls else None
        self._server = await asyncio.start_server(self._accept, *self._tcp, reuse_address=True, ssl=context)
        self._tcp = (self._tcp[0], self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        prepare_socket(writer.get_extra_info("socket"))
        self._on_peer(writer.get_extra_info("peername")[0])
        stream = AsyncioStream(reader, writer)
        try:
            await self._engine.serve(stream)
        finally:
            await stream.close()

    # -- pseudo-terminal -----------------------------------------------------------------------------------------------

    def _make_pty(self, link: Path) -> PtyStream:
        stream = PtyStream()
        fresh = link.with_name(link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(stream.path)
        fresh.replace(link)
        return stream

    async def _serve_pty(self, stream: PtyStream, link: Path) -> None:
        try:
            while True:
                await self._engine.serve(stream, serial=True)
                await stream.close()
                if not self._engine.plugged:
                    _remove(link)
                    self._plug.clear()
                    await self._plug.wait()
                stream = self._make_pty(link)
        finally:
            await stream.close()
            _remove(link)

    # -- device node ---------------------------------------------------------------------------------------------------

    async def _serve_node(self, path: Path, hold: Hold) -> None:
        """Talk on the node; whoever pulls the plug says `unplug`, and `replug` once it is in again."""
        while True:
            stream = NodeStream(path, hold)
            try:
                await self._engine.serve(stream, serial=stream.is_serial)
            finally:
                await stream.close()
            self._plug.clear()
            await self._plug.wait()

    # -- control -------------------------------------------------------------------------------------------------------

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._obey(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # a client that goes away or writes without end hurts only itself
        finally:
            writer.close()

    async def _obey(self, line: bytes) -> dict[str, object]:
        try:
            request = dict(json.loads(line))
            held = await self._hold.control(request) if self._hold is not None else None
            answer = held or await self._engine.control(request)
        except (ValueError, TypeError) as error:
            return {"error": str(error)}
        if request.get("cmd") == "unplug" and self._server is not None:
            self._server.close()
        if request.get("cmd") == "replug":
            self._plug.set()
            if self._server is not None and not self._server.is_serving():
                await self._open_port()
        return answer


def asked_to_stop() -> asyncio.Event:
    """What SIGTERM and SIGINT set from now on."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _remove(path: Path) -> None:
    """Remove a link or a socket; a simulator may block for a file name."""
    path.unlink(missing_ok=True)


def _absolute(path: Path) -> Path:
    return path.absolute()


@contextlib.asynccontextmanager
async def _announced(name: str, host: str, port: int, txt: Mapping[str, str]) -> AsyncIterator[None]:
    """The device's name and address over mDNS while the block runs; a name that is taken gets a number, as usual."""
    service, _, instance = name.partition("/")
    info = ServiceInfo(
        f"{service}.", f"{instance}.{service}.", addresses=[socket.inet_aton(host)], port=port, properties=dict(txt)
    )
    zeroconf = AsyncZeroconf(interfaces=[host], ip_version=IPVersion.V4Only)
    try:
        await (await zeroconf.async_register_service(info, allow_name_change=True))
        yield
    finally:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()
