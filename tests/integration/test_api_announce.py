"""The hub's own announcement, heard by another mDNS stack in the same network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from zeroconf import IPVersion, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from hubd.runtime import SystemClock
from local_api import announce
from local_api.announce import SERVICE, AnnouncedPrinter, Announcement, Announcer, heard_of
from local_api.rivals import Heard
from tests.rigs.process import wait_until

pytestmark = pytest.mark.alone("a third hub at one of these addresses would take answers that are meant for them")
IPP = "_ipp._tcp.local."
CLONE_AT = "127.0.0.2"
"""Two hubs have two addresses. At one, the kernel gives an answer that is meant for the one to a socket of either."""
HERE = Announcement("ab" * 16, "cd" * 32, "11" * 16, 3, 8443, ("127.0.0.1",))


async def _until(clock: SystemClock, condition: Any) -> None:
    async with clock.timeout(15):
        while not condition():
            await clock.sleep(0.02)


@pytest.mark.blocking_allowed("zeroconf opens its sockets and reads interfaces where it is called")
async def test_a_till_finds_the_hub_by_its_key_and_the_hub_hears_its_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "REFRESH_S", 0.05)
    clock, heard, found = SystemClock(), list[Heard](), list[str]()
    now = [replace(HERE, epoch=None)]

    async def here() -> Announcement:
        return now[0]

    async def cloned() -> Announcement:
        return clone

    announcer = Announcer(clock, here, heard.append, ["127.0.0.1"])
    clone = replace(HERE, line="22" * 16, epoch=4)
    listener = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)

    def changed(zeroconf: Any, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Added:
            found.append(name)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(announcer.run())
        browser = AsyncServiceBrowser(listener.zeroconf, [SERVICE], handlers=[changed])
        await _until(clock, lambda: any("abababab" in name for name in found))
        name = next(name for name in found if "abababab" in name)

        async def announced() -> AsyncServiceInfo:
            info = AsyncServiceInfo(SERVICE, name)
            assert await info.async_request(listener.zeroconf, 5_000)
            return info

        assert heard_of((await announced()).properties) == Heard(HERE.hub_id, HERE.line, None, HERE.fingerprint)
        now[0] = HERE  # the cloud has assigned the epoch

        async def has_epoch() -> bool:
            told = heard_of((await announced()).properties)
            return told is not None and told.epoch == 3

        await wait_until(has_epoch, 15, "the epoch to be announced")
        info = await announced()
        assert (info.port, info.server, info.properties[b"api"]) == (8443, "hubd-abababab.local.", b"1.0")
        other = group.create_task(Announcer(clock, cloned, lambda _one: None, [CLONE_AT]).run())
        await _until(clock, lambda: heard)
        assert heard[0] == Heard(clone.hub_id, clone.line, 4, clone.fingerprint, 8443, ("127.0.0.1",))
        await browser.async_cancel()
        running.cancel()
        other.cancel()
    await listener.async_close()


@pytest.mark.blocking_allowed("zeroconf opens its sockets and reads interfaces where it is called")
async def test_a_clone_is_heard_although_the_first_answer_to_its_name_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser tells of a name once; on a busy machine or a bad network, nobody may answer to it just then."""
    monkeypatch.setattr(announce, "REFRESH_S", 0.05)
    clock, heard, asked = SystemClock(), list[Heard](), list[str]()
    ask = AsyncServiceInfo.async_request

    async def loses_the_first(info: AsyncServiceInfo, zc: Any, wait_ms: float) -> bool:
        asked.append(info.name)
        return len(asked) > 2 and await ask(info, zc, wait_ms)

    async def here() -> Announcement:
        rounds.append(len(asked))
        return HERE

    async def cloned() -> Announcement:
        return clone

    monkeypatch.setattr(AsyncServiceInfo, "async_request", loses_the_first)
    rounds: list[int] = []
    clone = replace(HERE, line="22" * 16, epoch=4)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(Announcer(clock, here, heard.append, ["127.0.0.1"]).run())
        await _until(clock, lambda: len(rounds) > 2)  # its name is its own by now
        other = group.create_task(Announcer(clock, cloned, lambda _one: None, [CLONE_AT]).run())
        await _until(clock, lambda: heard)
        first.cancel()
        other.cancel()
    assert heard[0].line == clone.line
    assert len(asked) > 1


def test_a_record_of_something_else_is_not_a_hub() -> None:
    assert heard_of({b"hub": b"short"}) is None
    assert heard_of({}) is None
    assert heard_of({b"hub": b"ab" * 16, b"line": b"cd" * 16, b"epoch": b"x"}) == Heard("ab" * 16, "cd" * 16, None, "")


@pytest.mark.blocking_allowed("zeroconf opens its sockets and reads interfaces where it is called")
async def test_a_printer_is_announced_as_long_as_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "REFRESH_S", 0.05)
    opened = list[AsyncZeroconf]()

    class Recorded(AsyncZeroconf):
        def __init__(self, **chosen: Any) -> None:
            super().__init__(**chosen)
            opened.append(self)

    monkeypatch.setattr(announce, "AsyncZeroconf", Recorded)
    name = "Receipts of a till whose name is far longer than a label of the domain name system may be"
    printer = AnnouncedPrinter(IPP, name, 8631, (("rp", "ipp/print/till"),))
    now, seen = [replace(HERE, printers=(printer,))], set[str]()

    async def here() -> Announcement:
        return now[0]

    def changed(zeroconf: Any, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        (seen.discard if state_change is ServiceStateChange.Removed else seen.add)(name)

    listener = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(Announcer(SystemClock(), here, lambda _one: None, ["127.0.0.1"]).run())
        browser = AsyncServiceBrowser(listener.zeroconf, [IPP], handlers=[changed])
        found = await wait_until(lambda: next((one for one in seen if one.startswith(name[:60])), None), 15, "it")
        info = AsyncServiceInfo(IPP, found)
        assert await info.async_request(listener.zeroconf, 5_000)
        assert (info.port, info.properties) == (8631, {b"rp": b"ipp/print/till", b"hub": HERE.hub_id.encode()})
        now[0] = HERE  # it was taken out of use
        await wait_until(lambda: found not in seen, 15, "its goodbye")
        running.cancel()  # while goodbyes go out: there are three
        await browser.async_cancel()
    await listener.async_close()
    assert opened
    assert [one.zeroconf.done for one in opened] == [True] * len(opened), "its sockets are closed"
