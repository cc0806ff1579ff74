"""The probes against real sockets: what answers, what is silent, and a captive portal that answers for everybody."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hubd.runtime import Runtime, SystemClock, SystemIds
from sync.connectivity import Reading
from sync.probes import (
    DnsProbe,
    GatewayProbe,
    InternetProbe,
    LinkProbe,
    default_gateway,
    dns_query,
    judge_answer,
    read_dns_answer,
)
from tests.rigs.captive_portal import CaptiveDns, CaptivePortal
from tests.rigs.certificates import make_server_certificate
from tests.rigs.process import free_port
from tests.unit.clocks import RNG

OK = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
ROUTES = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
    "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\n"
)


def runtime(*, trusted: bool = True) -> Runtime:
    clock = SystemClock()
    if trusted:
        clock.trust()
    return Runtime(clock, SystemIds(), RNG, bytes(16), bytes(8))


@asynccontextmanager
async def https_place(folder: Path, answer: bytes = OK, name: str = "localhost") -> AsyncIterator[tuple[str, Path]]:
    """A server on the Internet, and the authority that browsers know."""
    certificate = await asyncio.to_thread(make_server_certificate, folder, names=(name,), addresses=())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(context.load_cert_chain, certificate.certificate, certificate.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/", certificate.authority


async def test_place_with_its_own_certificate_is_the_internet(tmp_path: Path) -> None:
    async with https_place(tmp_path) as (url, authority):
        assert (await InternetProbe(runtime(), (url,), authority).measure()).ok is True
        dead = f"https://localhost:{free_port()}/"
        assert (await InternetProbe(runtime(), (dead, url), authority).measure()).ok is True, "one proof is enough"
        assert (await InternetProbe(runtime(), (dead,), authority).measure()).ok is False


async def test_clock_of_1970_does_not_cut_the_shop_off(tmp_path: Path) -> None:
    async with https_place(tmp_path) as (url, authority):
        assert (await InternetProbe(runtime(trusted=False), (url,), authority).measure()).ok is True
    other = tmp_path / "other"
    await asyncio.to_thread(other.mkdir)
    async with https_place(other) as (url, _):
        stranger = InternetProbe(runtime(trusted=False), (url,), authority)
        assert await stranger.measure() == Reading(False, "wrong_certificate"), "only the date is overlooked"


@pytest.mark.parametrize("answer", ["page", "redirect"])
async def test_captive_portal_is_not_the_internet(tmp_path: Path, answer: str) -> None:
    """With TLS it has no certificate for the name, without TLS it speaks none: neither is believed."""
    trusted = await asyncio.to_thread(make_server_certificate, tmp_path)
    async with CaptivePortal(answer, tls=True) as portal:  # type: ignore[arg-type]  # the two literals of the rig
        probe = InternetProbe(runtime(), (f"https://localhost:{portal.port}/",), trusted.authority)
        assert await probe.measure() == Reading(False, "wrong_certificate")
    async with CaptivePortal(answer) as plain:  # type: ignore[arg-type]  # the two literals of the rig
        probe = InternetProbe(runtime(), (f"https://localhost:{plain.port}/",), trusted.authority)
        with pytest.raises(TimeoutError):  # it waits for a request in the clear; the worker bounds every probe
            async with runtime().clock.timeout(0.5):
                await probe.measure()


async def test_certificate_of_another_name_is_not_the_internet(tmp_path: Path) -> None:
    async with https_place(tmp_path, name="portal.example") as (url, authority):
        assert await InternetProbe(runtime(), (url,), authority).measure() == Reading(False, "wrong_certificate")


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", Reading(True)),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://www.example.com/fr/\r\n\r\n", Reading(True)),
        (b"HTTP/1.1 302 Found\r\nlocation: /start\r\n\r\n", Reading(True)),
        (b"HTTP/1.1 302 Found\r\nLocation: https://login.hotel.example/\r\n\r\n", Reading(False, "redirected")),
        (b"HTTP/1.1 302 Found\r\nLocation: https://evil-example.com/\r\n\r\n", Reading(False, "redirected")),
        (b"HTTP/1.1 511 Network Authentication Required\r\n\r\n", Reading(False, "status_511")),
        (b"HTTP/1.1 503 Unavailable\r\n\r\n", Reading(False, "status_503")),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Reading(False, "not_http")),
        (b"HTTP/1.1 abc\r\n\r\n", Reading(False, "not_http")),
        (b"\r\n\r\n", Reading(False, "not_http")),
    ],
)
def test_answer_of_a_place_is_judged(head: bytes, wanted: Reading) -> None:
    assert judge_answer(head, "example.com") == wanted


async def test_name_server_is_asked_with_a_packet_of_our_own() -> None:
    async with CaptiveDns("127.0.0.1") as server:
        probe = DnsProbe(runtime(), "www.example.com", f"{server.host}:{server.port}")
        assert (await probe.measure()).ok is True
    gone = DnsProbe(runtime(), "www.example.com", f"127.0.0.1:{free_port()}")
    with pytest.raises(ConnectionRefusedError):
        await gone.measure()  # the worker counts it as a failed hop


@pytest.mark.parametrize(
    ("flags", "records", "number", "wanted"),
    [
        (0x8180, 1, 7, Reading(True)),
        (0x8180, 0, 7, Reading(False, "no_record")),
        (0x8182, 0, 7, Reading(False, "servfail")),
        (0x8183, 0, 7, Reading(False, "no_such_name")),
        (0x8185, 0, 7, Reading(False, "rcode_5")),
        (0x8180, 1, 8, Reading(False, "other_answer")),
        (0x0100, 1, 7, Reading(False, "other_answer")),
    ],
)
def test_dns_answer_is_read(flags: int, records: int, number: int, wanted: Reading) -> None:
    raw = number.to_bytes(2, "big") + flags.to_bytes(2, "big") + b"\0\1" + records.to_bytes(2, "big") + bytes(4)
    assert read_dns_answer(raw, 7) == wanted


def test_short_dns_answer_proves_nothing() -> None:
    assert read_dns_answer(b"\0\7", 7).ok is False
    assert dns_query(7, "a.bc")[12:] == b"\1a\2bc\0\0\1\0\1"


async def test_refused_knock_is_an_answer_of_the_router_and_silence_is_none(tmp_path: Path) -> None:
    routes, arp = tmp_path / "route", tmp_path / "arp"
    await asyncio.to_thread(routes.write_text, ROUTES)
    await asyncio.to_thread(arp.write_text, "IP address HW type Flags HW address Mask Device\n")
    assert await asyncio.to_thread(default_gateway, routes) == "192.168.1.1"
    assert (await GatewayProbe(runtime(), "127.0.0.1", routes, arp).measure()).ok is True
    strict = GatewayProbe(runtime(), f"tcp://127.0.0.1:{free_port()}", routes, arp)
    assert await strict.measure() == Reading(False, "refused"), "a port that was named must accept"
    missing = tmp_path / "missing"
    assert await GatewayProbe(runtime(), "", missing, arp).measure() == Reading(False, "no_route")


async def test_router_that_filters_the_knock_is_known_by_its_arp_reply(tmp_path: Path) -> None:
    """A port whose queue is full drops what knocks, like a filter: only the kernel's neighbour table knows more."""
    arp = tmp_path / "arp"
    header, line = "IP address HW type Flags HW address Mask Device\n", "127.0.0.1 0x1 0x{} aa:bb:cc:dd:ee:ff * eth0\n"
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        probe = GatewayProbe(runtime(), "127.0.0.1", arp, arp, deaf.getsockname()[1])
        await asyncio.to_thread(arp.write_text, header + line.format(2))
        assert await probe.measure() == Reading(True, "arp")
        await asyncio.to_thread(arp.write_text, header + line.format(0))
        assert await probe.measure() == Reading(False, "timeout")


async def test_carrier_of_any_real_interface_counts(tmp_path: Path) -> None:
    def interface(name: str, carrier: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "carrier").write_text(carrier)

    await asyncio.to_thread(interface, "lo", "1\n")
    assert await LinkProbe(tmp_path).measure() == Reading(False, "no_interface")
    await asyncio.to_thread(interface, "eth0", "0\n")
    assert await LinkProbe(tmp_path).measure() == Reading(False, "no_carrier")
    await asyncio.to_thread(interface, "wlan0", "1\n")
    assert await LinkProbe(tmp_path).measure() == Reading(True, "wlan0")
