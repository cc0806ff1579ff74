"""What the service manager hears, over a real socket; and that the watchdog depends on the store's round trip."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.kit.virtual_time import VirtualClock, run
from hubd.sdnotify import ServiceManager, feed_watchdog


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    """The manager's end of the notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(5)
        yield end


def manager(ear: socket.socket, **environ: str) -> ServiceManager:
    return ServiceManager.from_environ({"NOTIFY_SOCKET": ear.getsockname(), **environ}, pid=42)


def heard(ear: socket.socket) -> list[str]:
    return ear.recv(4096).decode().split("\n")


def test_messages_arrive_as_the_manager_reads_them(ear: socket.socket) -> None:
    hub = manager(ear)
    assert hub.ready("page on\nhttps://hub:8443")
    assert heard(ear) == ["READY=1", "STATUS=page on https://hub:8443"]
    assert hub.status("online")
    assert heard(ear) == ["STATUS=online"]
    assert hub.alive()
    assert heard(ear) == ["WATCHDOG=1"]
    assert hub.extend_start(90)
    assert heard(ear) == ["EXTEND_TIMEOUT_USEC=90000000"]
    assert hub.stopping("finishing a payment")
    assert heard(ear) == ["STOPPING=1", "STATUS=finishing a payment"]


def test_an_abstract_address_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(b"\0hubd-test-notify")
        end.settimeout(5)
        assert ServiceManager("@hubd-test-notify").status("x")
        assert end.recv(100) == b"STATUS=x"


def test_without_a_manager_nothing_is_said_and_nothing_fails() -> None:
    assert not ServiceManager.from_environ({}).ready("x")


def test_a_manager_that_has_gone_does_not_end_the_hub(tmp_path: Path) -> None:
    assert not ServiceManager(str(tmp_path / "nobody")).status("x")


@pytest.mark.parametrize(
    ("environ", "limit"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_limit_is_read_from_the_environment(environ: dict[str, str], limit: float | None) -> None:
    assert ServiceManager.from_environ(environ, pid=42).watchdog_s == limit


def test_the_watchdog_is_fed_thrice_per_limit_and_starves_when_the_store_hangs(ear: socket.socket) -> None:
    clock = VirtualClock()
    hub = manager(ear, WATCHDOG_USEC="30000000")
    hang = asyncio.Event()
    trips: list[float] = []

    async def round_trip() -> None:
        trips.append(clock.monotonic())
        if len(trips) > 3:
            await hang.wait()

    async def main() -> None:
        feeding = asyncio.ensure_future(feed_watchdog(hub, clock, round_trip))  # noqa: TID251 - cancelled below
        await clock.sleep(300)
        feeding.cancel()
        await asyncio.wait([feeding])

    run(main())
    assert trips == [0.0, 10.0, 20.0, 30.0]
    ear.setblocking(False)
    assert [heard(ear) for _ in range(3)] == [["WATCHDOG=1"]] * 3
    with pytest.raises(BlockingIOError):
        ear.recv(100)


def test_a_failing_round_trip_goes_on_to_the_supervisor(ear: socket.socket) -> None:
    async def round_trip() -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        run(feed_watchdog(manager(ear, WATCHDOG_USEC="1000000"), VirtualClock(), round_trip))


def test_nobody_watching_needs_no_feeding() -> None:
    async def round_trip() -> None:
        raise AssertionError("asked although nobody watches")

    run(feed_watchdog(ServiceManager(), VirtualClock(), round_trip))
