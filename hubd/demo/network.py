"""The demo's own network: a router, a name server and a place on the Internet, all on loopback, that can be cut."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

from hubd.model.mode import Hop
from hubd.runtime import Runtime
from sync.connectivity import Probe
from sync.probes import DnsProbe, GatewayProbe, InternetProbe

LOOPBACK = "127.0.0.1"
DNS_NAME = "cloud.demo"
_HEADER = struct.Struct("!HHHHHH")
_ANSWER_FLAGS = 0x8180
_SERVFAIL = 2
_A_RECORD = struct.pack("!HHHLH4B", 0xC00C, 1, 1, 60, 4, 127, 0, 0, 1)
_QUERY_BYTES_MIN = 17


class _NameServer(asyncio.DatagramProtocol):
    """Answers every query with this machine's address, or that it cannot find out while the line is cut."""

    def __init__(self) -> None:
        self.connected = True
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._transport is None or len(data) < _QUERY_BYTES_MIN:
            return
        number = struct.unpack("!H", data[:2])[0]
        if self.connected:
            self._transport.sendto(_HEADER.pack(number, _ANSWER_FLAGS, 1, 1, 0, 0) + data[12:] + _A_RECORD, addr)
        else:
            self._transport.sendto(_HEADER.pack(number, _ANSWER_FLAGS | _SERVFAIL, 1, 0, 0, 0) + data[12:], addr)


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


class DemoNetwork:
    """Made by `demo_network`. `probes` is what the hub measures."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._names = _NameServer()
        self._router: asyncio.Server | None = None
        self._internet: asyncio.Server | None = None
        self._dns: asyncio.DatagramTransport | None = None
        self.probes: Mapping[Hop, Probe] = {}

    async def open(self) -> None:
        """Put up router, name server and Internet."""
        loop = asyncio.get_running_loop()
        self._router = await asyncio.start_server(_greet, LOOPBACK, 0)
        self._dns, _ = await loop.create_datagram_endpoint(lambda: self._names, local_addr=(LOOPBACK, 0))
        self._internet = await asyncio.start_server(_greet, LOOPBACK, 0)
        router, internet = (f"tcp://{LOOPBACK}:{port_of(server)}" for server in (self._router, self._internet))
        names = f"{LOOPBACK}:{self._dns.get_extra_info('sockname')[1]}"
        self.probes = {
            # The cable of a demo is plugged in as long as its router is there.
            Hop.LINK: GatewayProbe(self._runtime, router),
            Hop.GATEWAY: GatewayProbe(self._runtime, router),
            Hop.DNS: DnsProbe(self._runtime, DNS_NAME, names),
            Hop.INTERNET: InternetProbe(self._runtime, (internet,)),
        }
        self._internet_port = port_of(self._internet)

    async def cut(self) -> None:
        """Take the Internet away behind the router, as a cut line does."""
        self._names.connected = False
        if self._internet is not None:
            self._internet.close()
            self._internet = None

    async def mend(self) -> None:
        """Give it back."""
        self._names.connected = True
        if self._internet is None:
            self._internet = await asyncio.start_server(_greet, LOOPBACK, self._internet_port)

    def close(self) -> None:
        """Take everything down."""
        for server in (self._router, self._internet):
            if server is not None:
                server.close()
        if self._dns is not None:
            self._dns.close()


def port_of(server: asyncio.Server) -> int:
    """The port that the system chose."""
    return int(server.sockets[0].getsockname()[1])


@asynccontextmanager
async def demo_network(runtime: Runtime) -> AsyncIterator[DemoNetwork]:
    """A network for the block."""
    network = DemoNetwork(runtime)
    try:
        await network.open()
        yield network
    finally:
        network.close()
