"""The captive portal itself, asked by curl and by the resolver of a browser: it lies to everybody, consistently."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess

from tests.rigs.captive_portal import CaptiveDns, CaptivePortal
from tests.rigs.process import require_tool, run

CERTIFICATE_REFUSED = 60


async def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run curl to its end, without a word of its own."""
    return await asyncio.to_thread(run, require_tool("curl", "curl"), "-s", "-m", "10", *arguments, check=False)


async def test_every_host_and_path_gets_200_and_a_page() -> None:
    async with CaptivePortal() as portal:
        everything_to_it = ["--connect-to", f"::{portal.host}:{portal.port}", "-w", "\n%{http_code}"]
        for address in ("http://cloud.example/healthz", "http://bank.example/v1/probe?x=1"):
            done = await curl(*everything_to_it, address)
            assert done.stdout.endswith("\n200")
            assert "Free WiFi" in done.stdout
        assert portal.requests == ["GET /healthz HTTP/1.1", "GET /v1/probe?x=1 HTTP/1.1"]


async def test_the_other_kind_redirects_to_its_login() -> None:
    async with CaptivePortal("redirect") as portal:
        done = await curl("-w", "%{http_code} %{redirect_url}", f"{portal.url}/generate_204")
        assert done.stdout == f"302 {portal.url}/login"


async def test_over_tls_it_shows_a_certificate_that_is_not_the_one_asked_for() -> None:
    async with CaptivePortal(tls=True) as portal:
        to_it = ["--connect-to", f"::{portal.host}:{portal.port}", "https://cloud.example/healthz"]
        assert (await curl(*to_it)).returncode == CERTIFICATE_REFUSED
        assert "Free WiFi" in (await curl("--insecure", *to_it)).stdout


def question(name: str, kind: int) -> bytes:
    """A DNS query by hand (RFC 1035): the rig's parser is not to be tested by itself."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!HHHHHH", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


async def ask(dns: CaptiveDns, query: bytes) -> bytes:
    """Send a query by UDP and return the answer."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_sendto(sock, query, (dns.host, dns.port))
        return await asyncio.wait_for(loop.sock_recv(sock, 512), 5)  # noqa: TID251 - a real socket


async def test_every_name_is_at_the_portals_address() -> None:
    async with CaptiveDns("10.77.0.9") as dns:
        query = question("broker.cloud.example", 1)
        answer = await ask(dns, query)
        number, flags, questions, answers = struct.unpack_from("!HHHH", answer)
        assert (number, flags & 0x8000, flags & 0x000F, questions, answers) == (0x1234, 0x8000, 0, 1, 1)
        assert answer[12 : len(query)] == query[12:]
        assert answer[-4:] == bytes([10, 77, 0, 9])
        aaaa = await ask(dns, question("broker.cloud.example", 28))
        assert struct.unpack_from("!HHHH", aaaa)[3] == 0
        assert dns.questions == ["broker.cloud.example"] * 2


async def test_garbage_gets_no_answer() -> None:
    dns = CaptiveDns()
    for garbage in (b"", b"\0" * 5, question("a.b", 1)[:-3], b"\xff" * 40):
        assert dns.reply(garbage) is None
