"""The probes of a real network: carrier, router, name server, and a proof of the Internet that no portal can give."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from hubd.config_sections import ProbesConfig
from hubd.model.mode import Hop
from hubd.runtime import Runtime
from sync.connectivity import Probe, Reading

NETWORK_DIRECTORY = Path("/sys/class/net")
ROUTE_FILE = Path("/proc/net/route")
ARP_FILE = Path("/proc/net/arp")
RESOLVER_FILE = Path("/etc/resolv.conf")
GATEWAY_PORT = 53
DNS_PORT = 53
DNS_QUERY_WAIT_S = 2.0
KNOCK_WAIT_S = 2.0
ANSWER_BYTES_MAX = 4096
RTF_GATEWAY = 0x2
ARP_COMPLETE = 0x2
NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python does not name."""


class LinkProbe:
    """Whether any real interface has carrier."""

    def __init__(self, directory: Path = NETWORK_DIRECTORY) -> None:
        self._directory = directory

    async def measure(self) -> Reading:
        """Read the kernel's word."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Reading:
        seen = False
        for interface in sorted(self._directory.iterdir()):
            if interface.name == "lo":
                continue
            try:
                carrier = (interface / "carrier").read_text("ascii").strip()
            except OSError:
                carrier = "0"  # the kernel refuses to tell for an interface that is down
            if carrier == "1":
                return Reading(True, interface.name)
            seen = True
        return Reading(False, "no_carrier" if seen else "no_interface")


class GatewayProbe(Struct, frozen=True):
    """Whether the router answers on the wire: a refused connection is an answer, and so is an ARP reply."""

    runtime: Runtime
    address: str = ""
    """An address, `tcp://host:port`, or empty for the default route's."""
    route_file: Path = ROUTE_FILE
    arp_file: Path = ARP_FILE
    port: int = GATEWAY_PORT
    """Where to knock when only an address is known; routers of shops answer for names."""

    async def measure(self) -> Reading:
        """Knock at the router."""
        host, port, strict = await self._target()
        if not host:
            return Reading(False, "no_route")
        try:
            async with self.runtime.clock.timeout(KNOCK_WAIT_S):
                _, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            return Reading(False, "refused") if strict else Reading(True, "refused")
        except OSError as exc:  # TimeoutError among them
            if not strict and await asyncio.to_thread(_arp_complete, self.arp_file, host):
                return Reading(True, "arp")  # kernel and router have just spoken, only the port is filtered
            return Reading(False, "timeout" if isinstance(exc, TimeoutError) else type(exc).__name__)
        writer.close()
        return Reading(True, "connected")

    async def _target(self) -> tuple[str, int, bool]:
        if self.address.startswith("tcp://"):
            parts = urlsplit(self.address)
            return parts.hostname or "", parts.port or self.port, True
        if self.address:
            return self.address, self.port, False
        return await asyncio.to_thread(default_gateway, self.route_file), self.port, False


def default_gateway(route_file: Path = ROUTE_FILE) -> str:
    """The IPv4 address of the default route's router; empty if there is none."""
    try:
        lines = route_file.read_text("ascii").splitlines()[1:]
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if len(fields) > 3 and fields[1] == "00000000" and int(fields[3], 16) & RTF_GATEWAY:
            return str(ipaddress.IPv4Address(struct.pack("<L", int(fields[2], 16))))
    return ""


def _arp_complete(arp_file: Path, host: str) -> bool:
    try:
        lines = arp_file.read_text("ascii").splitlines()[1:]
    except OSError:
        return False
    rows = [line.split() for line in lines]
    return any(row[0] == host and int(row[2], 16) & ARP_COMPLETE for row in rows if len(row) > 3)


class DnsProbe:
    """Whether the name server resolves a name, asked with a packet of our own so that no cache of libc answers."""

    def __init__(self, runtime: Runtime, name: str, server: str = "", resolver_file: Path = RESOLVER_FILE) -> None:
        self._runtime = runtime
        self._name = name
        self._server = server
        self._resolver_file = resolver_file

    async def measure(self) -> Reading:
        """Ask for an address of the name."""
        host, port = await self._target()
        if not host:
            return Reading(False, "no_server")
        number = self._runtime.rng.getrandbits(16)
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            partial(_OneAnswer, answered), remote_addr=(host, port)
        )
        try:
            transport.sendto(dns_query(number, self._name))
            async with self._runtime.clock.timeout(DNS_QUERY_WAIT_S):
                return read_dns_answer(await answered, number)
        except TimeoutError:
            return Reading(False, "timeout")
        finally:
            transport.close()

    async def _target(self) -> tuple[str, int]:
        if self._server:
            host, _, port = self._server.rpartition(":")
            return (host, int(port)) if host else (self._server, DNS_PORT)
        return await asyncio.to_thread(_first_nameserver, self._resolver_file), DNS_PORT


class _OneAnswer(asyncio.DatagramProtocol):
    def __init__(self, answered: asyncio.Future[bytes]) -> None:
        self._answered = answered

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._answered.done():
            self._answered.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)


def _first_nameserver(resolver_file: Path) -> str:
    try:
        lines = resolver_file.read_text("utf-8").splitlines()
    except OSError:
        return ""
    found = (line.split() for line in lines if line.startswith("nameserver"))
    return next((words[1] for words in found if len(words) > 1), "")


def dns_query(number: int, name: str) -> bytes:
    """A query for the IPv4 address of `name`."""
    labels = b"".join(bytes((len(part),)) + part.encode("ascii") for part in name.rstrip(".").split("."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1)


def read_dns_answer(raw: bytes, number: int) -> Reading:
    """What an answer says: good only with our number, without error and with at least one record."""
    if len(raw) < 12:
        return Reading(False, "short_answer")
    answer_to, flags, _, records, _, _ = struct.unpack("!HHHHHH", raw[:12])
    if answer_to != number or not flags & 0x8000:
        return Reading(False, "other_answer")
    code = flags & 0x000F
    if code or not records:
        return Reading(False, {0: "no_record", 2: "servfail", 3: "no_such_name"}.get(code, f"rcode_{code}"))
    return Reading(True)


class InternetProbe:
    """Whether one of several places on the Internet proves that it is there.

    `https://` places prove themselves by a certificate for their name and an answer that is no redirection elsewhere: a
    captive portal has neither. `tcp://` places only accept, which is enough where the place is the shop's own (demo).
    """

    def __init__(self, runtime: Runtime, places: tuple[str, ...], ca_file: Path | None = None) -> None:
        self._runtime = runtime
        self._places = places
        self._ca_file = ca_file
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def measure(self) -> Reading:
        """Try the places at the same time; one proof is enough."""
        if not self._places:
            return Reading(None, "no_place")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._try(place)) for place in self._places]
            for done in asyncio.as_completed(tasks):
                reading = await done
                if reading.ok:
                    for task in tasks:
                        task.cancel()
                    return reading
        return tasks[0].result()

    async def _try(self, place: str) -> Reading:
        try:
            if place.startswith("tcp://"):
                parts = urlsplit(place)
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
                writer.close()
                return Reading(True, "connected")
            return await self._https(place)
        except ssl.SSLCertVerificationError:
            return Reading(False, "wrong_certificate")
        except ssl.SSLError:
            return Reading(False, "not_tls")
        except OSError as exc:
            return Reading(False, type(exc).__name__)

    async def _https(self, place: str) -> Reading:
        parts = urlsplit(place)
        host = parts.hostname or ""
        # A clock that says 1970 must not cut the shop off: name and chain are checked all the same.
        context = await self._context(check_time=self._runtime.clock.trusted())
        reader, writer = await asyncio.open_connection(host, parts.port or 443, ssl=context, server_hostname=host)
        try:
            path = parts.path or "/"
            writer.write(f"HEAD {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode("ascii"))
            await writer.drain()
            try:
                answer = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
                return Reading(False, type(exc).__name__)
        finally:
            writer.close()
        return judge_answer(answer, host)

    async def _context(self, *, check_time: bool) -> ssl.SSLContext:
        if check_time not in self._contexts:
            context = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
            if not check_time:
                context.verify_flags |= NO_CHECK_TIME
            self._contexts[check_time] = context
        return self._contexts[check_time]


def judge_answer(head: bytes, host: str) -> Reading:
    """Whether an HTTP answer is the place's own: a success, or a redirection within its own name."""
    lines = head[:ANSWER_BYTES_MAX].decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        return Reading(False, "not_http")
    status = int(words[1])
    if 200 <= status < 300:
        return Reading(True)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    target = urlsplit(headers.get("location", "")).hostname
    if 300 <= status < 400 and (target is None or _same_site(target, host)):
        return Reading(True)
    return Reading(False, "redirected" if 300 <= status < 400 else f"status_{status}")


def _same_site(target: str, host: str) -> bool:
    return target == host or target.removeprefix("www.") == host.removeprefix("www.") or target.endswith(f".{host}")


def network_probes(runtime: Runtime, config: ProbesConfig) -> Mapping[Hop, Probe]:
    """The probes of a real store."""
    return {
        Hop.LINK: LinkProbe(),
        Hop.GATEWAY: GatewayProbe(runtime, config.gateway),
        Hop.DNS: DnsProbe(runtime, config.dns_name, config.dns_server),
        Hop.INTERNET: InternetProbe(runtime, config.internet),
    }
