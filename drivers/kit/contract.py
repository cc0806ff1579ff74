"""What every driver keeps, whatever its line does: checks for drivers of other packages, without a test framework.

A package tells how its device is asked and what a right answer is; `checks()` gives the checks, one test each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, TypeVar

from msgspec import Struct

from drivers.base import DriverFactory
from drivers.faces import AnyFace, RunnerScanner
from drivers.kit import virtual_time
from drivers.kit.bench import PeripheralBench, Spoil, peripheral_bench
from drivers.kit.memory_line import Delivery
from drivers.sim.peripheral import PeripheralSimulator
from hubd.model.device import DeviceState
from hubd.runtime import Runtime

S = TypeVar("S", bound=PeripheralSimulator)
LATE_S = (1.0, 5.0, 40.0)
FLIPPED_BITS = (0, 3, 6)
BABBLE_ASKED = 20
RECOVERY_TRIES = 4
GIVEN_UP_AFTER_S = 600.0
"""A question that is not answered by then never is."""
NOTICED_WITHIN_S = 300.0
"""A device that is silent or gone is shown as such within this time, which is two of the slowest signs of life."""


class Answer(StrEnum):
    """What became of one question to the device, as the simulator knows it."""

    RIGHT = "right"
    NONE = "none"
    """Nothing, or "I do not know"; the device may have done nothing that the answer does not say."""
    WRONG = "wrong"
    """Something that is not so. Never allowed."""


class Contract(Struct, Generic[S], frozen=True):
    """How a driver is made, reached and asked."""

    driver: DriverFactory
    url: str
    simulator: Callable[[Runtime], S]
    ask: Callable[[AnyFace, S], Awaitable[Answer]]
    """Use the device once. It must come back within `answers_within_s`, and must not raise."""
    answers_within_s: float
    options: Mapping[str, str] = MappingProxyType({})


class Check(Struct, Generic[S], frozen=True):
    """One promise; `run` raises AssertionError with the place at which it is broken."""

    name: str
    body: Callable[[Contract[S]], Coroutine[None, None, None]]
    contract: Contract[S]

    def run(self) -> None:
        """Run in virtual time. Raises AssertionError, also when a task is left or nothing can happen any more."""
        virtual_time.run(self.body(self.contract))

    def __str__(self) -> str:
        return self.name


def checks(contract: Contract[S]) -> list[Check[S]]:
    """All promises for one driver."""
    bodies = (
        answers_right,
        frames_split_at_every_byte,
        every_block_lost,
        every_block_doubled,
        every_block_late,
        every_byte_corrupted,
        the_line_cut_at_every_byte,
        a_silent_device_is_not_called_ready,
        babble_is_no_answer,
        a_device_that_was_unplugged_comes_back,
    )
    return [Check(body.__name__, body, contract) for body in bodies]


async def _asked(made: PeripheralBench[S], contract: Contract[S], where: str) -> Answer:
    begun = made.clock.monotonic()
    try:
        async with made.clock.timeout(GIVEN_UP_AFTER_S):
            answer = await contract.ask(made.face, made.simulator)
    except TimeoutError:
        raise AssertionError(f"{where}: no answer in {GIVEN_UP_AFTER_S:.0f} s") from None
    took = made.clock.monotonic() - begun
    assert took <= contract.answers_within_s, f"{where}: it took {took:.1f} s, {contract.answers_within_s} are promised"
    assert answer is not Answer.WRONG, f"{where}: the answer was wrong"
    return answer


async def _recovered(made: PeripheralBench[S], contract: Contract[S], where: str) -> None:
    """On a line that is well again, it answers right again."""
    made.simulator.faults.clear()
    for line in made.lines:
        line.watch()
    for _ in range(RECOVERY_TRIES):
        await made.ready()
        if await _asked(made, contract, where) is Answer.RIGHT:
            return
    raise AssertionError(f"{where}: it did not recover")


async def _blocks(contract: Contract[S]) -> dict[str, list[bytes]]:
    """What is written by either side while one question is answered."""
    async with peripheral_bench(contract.driver, contract.url, contract.simulator, contract.options) as made:
        made.line.watch()
        assert await _asked(made, contract, "on a line that is well") is Answer.RIGHT, "a well device answers right"
        return {"hub": list(made.line.hub_blocks), "device": list(made.line.device_blocks)}


async def _spoiled(contract: Contract[S], direction: str, spoil: Spoil, where: str) -> Answer:
    """Ask twice while one direction is spoiled; then the line is well, and it must work."""
    async with peripheral_bench(contract.driver, contract.url, contract.simulator, contract.options) as made:
        made.line.watch(spoil if direction == "hub" else None, spoil if direction == "device" else None)
        first = await _asked(made, contract, where)
        await _asked(made, contract, where)
        await _recovered(made, contract, where)
        return first


def _nth(index: int, deliver: Callable[[bytes], list[Delivery]]) -> Spoil:
    return lambda n, data: deliver(data) if n == index else [Delivery(data)]


async def _each_block(contract: Contract[S], deliver: Callable[[bytes], list[Delivery]], what: str) -> None:
    for direction, blocks in (await _blocks(contract)).items():
        for index in range(len(blocks)):
            await _spoiled(contract, direction, _nth(index, deliver), f"block {index} of the {direction} {what}")


async def answers_right(contract: Contract[S]) -> None:
    """On a line that is well, every question is answered right."""
    async with peripheral_bench(contract.driver, contract.url, contract.simulator, contract.options) as made:
        for count in range(5):
            assert await _asked(made, contract, f"question {count}") is Answer.RIGHT


async def frames_split_at_every_byte(contract: Contract[S]) -> None:
    """Where a line breaks a frame in two changes nothing."""
    for direction, blocks in (await _blocks(contract)).items():
        for split in range(1, max((len(block) for block in blocks), default=0)):

            def halves(_: int, data: bytes, split: int = split) -> list[Delivery]:
                return [Delivery(data[:split]), Delivery(data[split:], 0.05)]

            where = f"frames of the {direction} split at byte {split}"
            assert await _spoiled(contract, direction, halves, where) is Answer.RIGHT, where


async def every_block_lost(contract: Contract[S]) -> None:
    """What is lost may cost an answer, never the truth."""
    await _each_block(contract, lambda _: [], "lost")


async def every_block_doubled(contract: Contract[S]) -> None:
    """What comes twice, at once or late, counts once."""
    for apart_s in (0.0, *LATE_S):

        def twice(data: bytes, apart_s: float = apart_s) -> list[Delivery]:
            return [Delivery(data), Delivery(data, apart_s)]

        await _each_block(contract, twice, f"doubled {apart_s} s apart")


async def every_block_late(contract: Contract[S]) -> None:
    """An answer that comes late is not taken for the answer to a later question."""
    for late_s in LATE_S:

        def late(data: bytes, late_s: float = late_s) -> list[Delivery]:
            return [Delivery(data, late_s)]

        await _each_block(contract, late, f"{late_s} s late")


def _flips(blocks: list[bytes]) -> Iterator[tuple[int, int, int]]:
    return ((index, at, bit) for index, block in enumerate(blocks) for at in range(len(block)) for bit in FLIPPED_BITS)


async def every_byte_corrupted(contract: Contract[S]) -> None:
    """A flipped bit in any byte may cost an answer, never the truth."""
    for direction, blocks in (await _blocks(contract)).items():
        for index, at, bit in _flips(blocks):

            def flip(data: bytes, at: int = at, bit: int = bit) -> list[Delivery]:
                return [Delivery(data[:at] + bytes((data[at] ^ (1 << bit),)) + data[at + 1 :])]

            where = f"bit {bit} of byte {at} of block {index} of the {direction} flipped"
            await _spoiled(contract, direction, _nth(index, flip), where)


async def the_line_cut_at_every_byte(contract: Contract[S]) -> None:
    """A line that breaks anywhere is opened again."""
    for direction, blocks in (await _blocks(contract)).items():
        for cut_after in range(1, sum(map(len, blocks)) + 1):
            where = f"the line cut after byte {cut_after} of the {direction}"
            async with peripheral_bench(contract.driver, contract.url, contract.simulator, contract.options) as made:
                end = made.line.hub if direction == "hub" else made.line.device
                end.cut_after = end.bytes_written + cut_after
                await _asked(made, contract, where)
                await _recovered(made, contract, where)


async def a_silent_device_is_not_called_ready(contract: Contract[S]) -> None:
    """Its state is the age of its last good answer, also when nobody asks it anything."""
    async with peripheral_bench(contract.driver, contract.url, contract.simulator, contract.options) as made:
        if isinstance(made.face, RunnerScanner):
            return  # it speaks by itself, so its silence says nothing
        made.simulator.faults.silent = True
        await made.until(lambda: made.face.status.state is not DeviceState.READY, "a silent device", NOTICED_WITHIN_S)
        await _recovered(made, contract, "after silence")


async def babble_is_no_answer(contract: Contract[S]) -> None:
    """Bytes that mean nothing are no answer, and do not stop the device from coming back."""
    async with peripheral_bench(contract.driver, contract.url, contract.simulator, contract.options) as made:
        made.simulator.faults.babble = True
        for count in range(BABBLE_ASKED):
            await _asked(made, contract, f"question {count} amid babble")
            await made.clock.sleep(0.5)
        await _recovered(made, contract, "after babble")


async def a_device_that_was_unplugged_comes_back(contract: Contract[S]) -> None:
    """Unplugged it is gone; plugged in again it works, without anybody's help."""
    async with peripheral_bench(contract.driver, contract.url, contract.simulator, contract.options) as made:
        await made.simulator.control({"cmd": "unplug"})
        await made.until(lambda: made.face.status.state is DeviceState.GONE, "a device that is gone", NOTICED_WITHIN_S)
        assert await _asked(made, contract, "unplugged") is Answer.NONE, "what is not there gives no answer"
        await made.simulator.control({"cmd": "replug"})
        await _recovered(made, contract, "plugged in again")
