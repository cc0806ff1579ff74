"""One line: block confirmation on serial lines, limits, and an end that everybody hears."""

from __future__ import annotations

import asyncio

import pytest

from drivers.kit.memory_line import memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.link import LineLostError
from drivers.zvt_codec import Apdu, encode_apdu, encode_serial
from drivers.zvt_link import APDUS_WAITING_MAX, BLOCK_REPEATS_MAX, BlockRefusedError, ZvtLink

COMMAND = Apdu(0x0670)
BLOCK = encode_serial(COMMAND)


def test_a_spoiled_block_is_answered_with_nak_and_a_good_one_with_ack() -> None:
    async def main() -> None:
        hub, device = memory_pipe()
        link = ZvtLink(hub, VirtualClock(), serial=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="pump")
            await device.write(BLOCK[:-1] + b"\x00")
            assert await device.read(10) == b"\x15"
            await device.write(BLOCK)
            assert await device.read(10) == b"\x06"
            assert await link.receive(1) == COMMAND
            await link.close()

    run(main())


@pytest.mark.parametrize(("once", "copies"), [(False, 1 + BLOCK_REPEATS_MAX), (True, 1)])
@pytest.mark.parametrize("answer", [b"", b"\x15"])
def test_an_unconfirmed_block_is_repeated_unless_it_moves_money(once: bool, copies: int, answer: bytes) -> None:
    async def main() -> None:
        hub, device = memory_pipe()
        link = ZvtLink(hub, VirtualClock(), serial=True)
        heard: list[bytes] = []

        async def refuse() -> None:
            while True:
                heard.append(await device.read(100))
                if answer:
                    await device.write(answer)

        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="pump")
            refusing = group.create_task(refuse(), name="device")
            with pytest.raises(BlockRefusedError):
                await link.send(COMMAND, once=once)
            refusing.cancel()
            await link.close()
        assert heard == [BLOCK] * copies

    run(main())


def test_a_block_that_stops_in_the_middle_does_not_swallow_the_next() -> None:
    async def main() -> None:
        hub, device = memory_pipe()
        clock = VirtualClock()
        link = ZvtLink(hub, clock, serial=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="pump")
            await device.write(BLOCK[:5])
            await clock.sleep(5)
            await device.write(BLOCK)
            assert await link.receive(1) == COMMAND
            await link.close()

    run(main())


def test_a_device_that_pours_out_blocks_loses_its_line() -> None:
    async def main() -> None:
        hub, device = memory_pipe()
        link = ZvtLink(hub, VirtualClock(), serial=False)
        await device.write(encode_apdu(COMMAND) * (APDUS_WAITING_MAX + 1))
        assert await link.pump() == "babble"
        with pytest.raises(LineLostError, match="babble"):
            await link.send(COMMAND)

    run(main())


def test_closing_ends_a_waiting_receive() -> None:
    async def main() -> None:
        hub, _ = memory_pipe()
        link = ZvtLink(hub, VirtualClock(), serial=False)

        async def wait() -> None:
            with pytest.raises(LineLostError, match="closed"):
                await link.receive(None)

        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="pump")
            group.create_task(wait(), name="receiver")
            await asyncio.wait({group.create_task(link.close(), name="closer")})
            await link.close()

    run(main())
