"""One line: where a message ends although nothing marks its end, limits, and an end that everybody hears."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from drivers.caisse_ap_codec import ELEMENTS_MAX, Message, encode_elements
from drivers.caisse_ap_link import MESSAGES_WAITING_MAX, QUIET_S, STALLED_S, CaisseApLink
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.link import LineLostError

ANSWER = b"CZ0040301CA00201AE00210"


def has_status(message: Message) -> bool:
    return bool(message.get("AE"))


def on_a_line(test: Callable[[CaisseApLink, MemoryStream, VirtualClock], Awaitable[None]]) -> None:
    async def main() -> None:
        hub, device = memory_pipe()
        clock = VirtualClock()
        link = CaisseApLink(hub, clock)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="pump")
            await test(link, device, clock)
            await link.close()

    run(main())


def test_a_complete_message_ends_with_silence() -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        await device.write(ANSWER)
        assert (await link.receive(has_status)).get("AE") == "10"
        assert clock.monotonic() == pytest.approx(QUIET_S)
        assert not link.pending

    on_a_line(test)


def test_a_message_that_lacks_something_is_waited_for_across_a_pause() -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        device.delay_s = 0.0
        await device.write(ANSWER[:16])
        device.delay_s = STALLED_S - 1
        await device.write(ANSWER[16:])
        assert (await link.receive(has_status)).get("AE") == "10"
        assert clock.monotonic() == pytest.approx(STALLED_S - 1 + QUIET_S)

    on_a_line(test)


def test_an_incomplete_message_is_taken_as_it_is_in_the_end() -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        await device.write(ANSWER[:16])
        assert (await link.receive(has_status)).fields == {"CZ": "0301", "CA": "01"}
        assert clock.monotonic() == pytest.approx(STALLED_S)

    on_a_line(test)


def test_an_element_that_stops_in_the_middle_is_no_message() -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        await device.write(ANSWER + b"AF0")
        with pytest.raises(LineLostError, match="cut_short"):
            await link.receive(has_status)

    on_a_line(test)


@pytest.mark.parametrize("cut", [False, True])
def test_a_line_that_ends_behind_a_complete_message_takes_nothing_of_it(cut: bool) -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        await device.write(ANSWER)
        if cut:
            device.cut()
        else:
            await device.close()
        assert (await link.receive(has_status)).get("AE") == "10"
        assert clock.monotonic() == 0
        with pytest.raises(LineLostError):
            await link.receive(has_status)

    on_a_line(test)


@pytest.mark.parametrize("size", [*range(17), 17, 20, 22])
def test_a_line_that_ends_before_is_a_lost_answer(size: int) -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        await device.write(ANSWER[:size])
        await device.close()
        with pytest.raises(LineLostError, match="hung_up"):
            await link.receive(has_status)

    on_a_line(test)


def test_messages_that_follow_each_other_are_told_apart() -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        await device.write(ANSWER.replace(b"10", b"11") + ANSWER)
        assert (await link.receive(has_status)).get("AE") == "11"
        assert link.pending
        assert (await link.receive(has_status)).get("AE") == "10"
        await device.write(ANSWER * 2)
        await clock.sleep(0)
        link.forget_received()
        assert not link.pending

    on_a_line(test)


def many_elements() -> bytes:
    tags = [one + two for one in "ABDEF" for two in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    return encode_elements([("CZ", "0300"), *((tag, "x") for tag in tags[:ELEMENTS_MAX])])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"CA00201AE00210", "not_caisse_ap"),
        (b"CZ0040301AE00210AE00201", "not_caisse_ap"),
        (b"HTTP/1.1 400 Bad Request", "not_caisse_ap"),
        (b"\x80\x00\x00", "not_caisse_ap"),
        (ANSWER * (MESSAGES_WAITING_MAX + 2), "babble"),
        (many_elements(), "not_caisse_ap"),
    ],
)
def test_a_device_of_another_kind_loses_its_line(data: bytes, reason: str) -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        await device.write(data)
        await link.ended.wait()
        assert link.lost == reason
        with pytest.raises(LineLostError, match=reason):
            await link.send(ANSWER)

    on_a_line(test)


def test_closing_ends_a_waiting_receive() -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        async def wait() -> None:
            with pytest.raises(LineLostError, match="closed"):
                await link.receive(has_status)

        async with asyncio.TaskGroup() as group:
            group.create_task(wait(), name="receiver")
            await clock.sleep(1)
            await link.close()
        await link.close()

    on_a_line(test)


def test_a_write_that_breaks_may_have_left() -> None:
    async def test(link: CaisseApLink, device: MemoryStream, clock: VirtualClock) -> None:
        device.cut()
        with pytest.raises(LineLostError, match="line_error"):
            await link.send(ANSWER)
        assert link.lost.startswith("line_error")

    on_a_line(test)
