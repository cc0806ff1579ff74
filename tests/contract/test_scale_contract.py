"""What every scale driver must keep, whatever its line does: against its own simulator, in virtual time.

A weight that is told is the one that lay on the scale when it was asked for; everything else is no weight.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from drivers.faces import RunnerScale
from drivers.kit.bench import PeripheralBench, Spoil, peripheral_bench
from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from drivers.scale_line import WEIGH_TIMEOUT_S
from drivers.sim.scale import SCALES, ScaleSimulator
from hubd.model.device import DeviceKind, DeviceState
from hubd.ports import NoWeight, Weight
from tests.contract.terminal_bench import REGISTRY

BEFORE, AFTER = 345, 1270
"""Grams: what lies there first, and what lies there from the moment of the first answer on."""
LATE_S = (1.0, 3.0, 30.0)


@dataclass(frozen=True, slots=True)
class ScaleKind:
    """What a driver brings along for the contract."""

    urls: tuple[str, ...]
    asked: bool = True
    """Whether the hub writes anything."""
    tares: bool = True
    """Whether its frames tell that a tare was taken off."""
    zeroes: bool = False


KINDS = {
    "cas": ScaleKind(("serial:///dev/scale?baud=9600&stop_bits=1",), tares=False),
    "cas_stream": ScaleKind(("serial:///dev/scale?baud=9600&stop_bits=1",), asked=False),
    "toledo8217": ScaleKind(
        ("serial:///dev/scale?baud=9600&data_bits=7&parity=even&stop_bits=1", "tcp://scale:4001"), zeroes=True
    ),
}


def scales_that(wanted: Callable[[ScaleKind], bool] = lambda _: True) -> pytest.MarkDecorator:
    cases = [(driver_id, url) for driver_id, kind in sorted(KINDS.items()) if wanted(kind) for url in kind.urls]
    ids = [f"{driver_id}-{url.partition(':')[0]}" for driver_id, url in cases]
    return pytest.mark.parametrize(("driver_id", "url"), cases, ids=ids)


scales = scales_that()
DIRECTED = [
    pytest.param(driver_id, url, direction, id=f"{driver_id}-{url.partition(':')[0]}-{direction}")
    for driver_id, kind in sorted(KINDS.items())
    for url in kind.urls
    for direction in (("hub", "device") if kind.asked else ("device",))
]
directed_scales = pytest.mark.parametrize(("driver_id", "url", "direction"), DIRECTED)


class Bench:
    """A bench and the face of its scale."""

    def __init__(self, made: PeripheralBench[ScaleSimulator]) -> None:
        assert isinstance(made.face, RunnerScale)
        self.made, self.scale = made, made.face
        self.simulator = made.simulator
        self.clock = made.clock

    def spoil(self, direction: str, spoil: Spoil | None) -> None:
        self.made.line.watch(spoil if direction == "hub" else None, spoil if direction == "device" else None)

    async def weigh(self) -> Weight | NoWeight:
        """Weigh, and hold it to its time and to the truth."""
        begun, truth = self.clock.monotonic(), Weight(self.simulator.grams, net=self.simulator.net)
        said = await self.scale.weigh()
        assert self.clock.monotonic() - begun <= WEIGH_TIMEOUT_S + 0.01
        assert isinstance(said, NoWeight) or said == truth, f"{said} where {truth} lay"
        return said

    async def recovered(self) -> None:
        """On a line that is well again, it weighs again."""
        for line in self.made.lines:
            line.watch()
        self.simulator.grams = 2_005
        for _ in range(4):
            await self.made.ready()
            if await self.weigh() == Weight(2_005):
                return
        raise AssertionError("it did not recover")


@asynccontextmanager
async def bench(driver_id: str, url: str) -> AsyncIterator[Bench]:
    async with peripheral_bench(REGISTRY.factory(driver_id), url, SCALES[driver_id]) as made:
        made.simulator.grams = BEFORE
        yield Bench(made)


def nth(index: int, deliver: Callable[[bytes], list[Delivery]]) -> Spoil:
    return lambda n, data: deliver(data) if n == index else [Delivery(data)]


def blocks_of_a_weighing(driver_id: str, url: str, direction: str) -> list[bytes]:
    async def main() -> list[bytes]:
        async with bench(driver_id, url) as made:
            made.made.line.watch()
            assert await made.weigh() == Weight(BEFORE)
            line = made.made.line
            return list(line.hub_blocks if direction == "hub" else line.device_blocks)

    return run(main())


def weigh_with(driver_id: str, url: str, direction: str, spoil: Spoil) -> list[Weight | NoWeight]:
    """Weigh while one direction is spoiled, change the load, weigh again; then the line is well and it must work."""

    async def main() -> list[Weight | NoWeight]:
        async with bench(driver_id, url) as made:
            made.spoil(direction, spoil)
            said = [await made.weigh()]
            made.simulator.grams = AFTER
            said.append(await made.weigh())
            await made.clock.sleep(0.2)
            said.append(await made.weigh())
            await made.recovered()
            return said

    return run(main())


def test_every_registered_scale_driver_is_under_this_contract() -> None:
    manifests = [entry.manifest for entry in REGISTRY.entries]
    assert {one.id for one in manifests if one and one.kind is DeviceKind.SCALE} == set(KINDS) == set(SCALES)


@scales
def test_weighs(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            assert made.scale.capabilities == REGISTRY.manifest(driver_id).capabilities
            for grams in (0, 1, 345, 999, 1000, 14_999):
                made.simulator.grams = grams
                assert await made.weigh() == Weight(grams)

    run(main())


@scales
def test_what_must_not_be_sold_by_is_no_weight(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:

            async def refused() -> str:
                said = await made.weigh()
                assert isinstance(said, NoWeight)
                assert said.remedy
                return said.reason

            made.simulator.stable = False
            assert await refused() == "in_motion"
            made.simulator.stable, made.simulator.grams = True, -5
            assert await refused() == "under_zero"
            made.simulator.grams = 15_001
            assert await refused() == "over_capacity"
            made.simulator.grams, made.simulator.pounds = 345, True
            assert await refused() == "unit_pounds"
            made.simulator.pounds = False
            assert await made.weigh() == Weight(345)

    run(main())


@scales_that(lambda kind: kind.tares)
def test_a_weight_without_its_tare_is_told_as_such(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.net = True
            assert await made.weigh() == Weight(BEFORE, net=True)

    run(main())


@scales
def test_the_zero_command_is_taken_once_or_refused_with_a_reason(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.grams = 12
            if not KINDS[driver_id].zeroes:
                refusal = await made.scale.zero()
                assert refusal is not None
                assert refusal.reason == "not_supported"
                return
            assert await made.scale.zero() is None
            assert (made.simulator.zeroed, await made.weigh()) == (1, Weight(0))
            for change, reason in (
                ({"grams": 2_000}, "outside_zero_range"),
                ({"grams": 0, "stable": False}, "in_motion"),
                ({"stable": True, "net": True}, "tare_set"),
            ):
                for name, value in change.items():
                    setattr(made.simulator, name, value)
                refusal = await made.scale.zero()
                assert refusal is not None
                assert refusal.reason == reason
            assert made.simulator.zeroed == 1

    run(main())


@directed_scales
def test_frames_split_at_every_byte_change_nothing(driver_id: str, url: str, direction: str) -> None:
    blocks = blocks_of_a_weighing(driver_id, url, direction)
    for split in range(1, max(2, *map(len, blocks))):

        def cut_in_two(_: int, data: bytes, split: int = split) -> list[Delivery]:
            return [Delivery(data[:split]), Delivery(data[split:], 0.05)]

        said = weigh_with(driver_id, url, direction, cut_in_two)
        assert (said[0], said[2]) == (Weight(BEFORE), Weight(AFTER)), split


@directed_scales
def test_every_lost_block_is_no_weight_or_the_right_one(driver_id: str, url: str, direction: str) -> None:
    for index in range(len(blocks_of_a_weighing(driver_id, url, direction)) + 1):
        weigh_with(driver_id, url, direction, nth(index, lambda _: []))


@directed_scales
@pytest.mark.parametrize("apart_s", [0.0, 0.04, 1.0, 3.0])
def test_every_doubled_block_is_harmless(driver_id: str, url: str, direction: str, apart_s: float) -> None:
    def twice(data: bytes) -> list[Delivery]:
        return [Delivery(data), Delivery(data, apart_s)]

    for index in range(len(blocks_of_a_weighing(driver_id, url, direction)) + 1):
        weigh_with(driver_id, url, direction, nth(index, twice))
    if apart_s == 0.0:
        said = weigh_with(driver_id, url, direction, lambda _, data: twice(data))
        assert said[0] == Weight(BEFORE)


@scales_that(lambda kind: kind.asked)
def test_answers_to_older_questions_are_not_believed_however_often_they_come(driver_id: str, url: str) -> None:
    old = blocks_of_a_weighing(driver_id, url, "device")

    async def main(index: int) -> None:
        async with bench(driver_id, url) as made:
            made.simulator.grams = AFTER
            stale = [Delivery(block) for block in old * 2]
            made.spoil("device", nth(index, lambda data: [*stale, Delivery(data, 0.05)]))
            await made.weigh()
            await made.recovered()

    for index in range(len(old)):
        run(main(index))


@directed_scales
@pytest.mark.parametrize("late_s", LATE_S)
def test_every_late_block_is_no_weight_or_the_right_one(
    driver_id: str, url: str, direction: str, late_s: float
) -> None:
    for index in range(len(blocks_of_a_weighing(driver_id, url, direction)) + 1):
        weigh_with(driver_id, url, direction, nth(index, lambda data: [Delivery(data, late_s)]))


@directed_scales
@pytest.mark.timeout(120)
def test_every_flipped_bit_is_no_weight_or_the_right_one(driver_id: str, url: str, direction: str) -> None:
    blocks = blocks_of_a_weighing(driver_id, url, direction)
    for index, block in enumerate(blocks):
        for at in range(len(block)):
            for bit in range(8):

                def flip(data: bytes, at: int = at, bit: int = bit) -> list[Delivery]:
                    return [Delivery(data[:at] + bytes((data[at] ^ (1 << bit),)) + data[at + 1 :])]

                weigh_with(driver_id, url, direction, nth(index, flip))


@directed_scales
def test_a_line_cut_at_every_byte_is_no_weight_or_the_right_one(driver_id: str, url: str, direction: str) -> None:
    async def main(cut_after: int) -> None:
        async with bench(driver_id, url) as made:
            end = made.made.line.hub if direction == "hub" else made.made.line.device
            end.cut_after = end.bytes_written + cut_after
            await made.weigh()
            made.simulator.grams = AFTER
            await made.weigh()
            await made.recovered()

    for cut_after in range(1, sum(map(len, blocks_of_a_weighing(driver_id, url, direction))) + 2):
        run(main(cut_after))


@scales
def test_babble_is_no_weight(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.faults.babble = True
            for _ in range(50):
                assert isinstance(await made.weigh(), NoWeight)
                await made.clock.sleep(0.5)
            made.simulator.faults.clear()
            await made.recovered()

    run(main())


@scales
def test_a_line_that_babbles_while_it_is_opened_is_no_scale(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.faults.babble = True
            await made.made.line.hub.close()
            await made.made.until(lambda: made.scale.status.state is not DeviceState.READY, "a lost scale")
            await made.clock.sleep(60)
            assert made.scale.status.state is not DeviceState.READY
            assert made.scale.status.remedy
            made.simulator.faults.clear()
            await made.recovered()

    run(main())


@scales
def test_a_silent_scale_is_not_called_ready(driver_id: str, url: str) -> None:
    """Unplugged behind its adapter: the line stays open, and nobody asks for a weight."""

    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.faults.silent = True
            await made.made.until(lambda: made.scale.status.state is DeviceState.SILENT, "a silent scale", 60.0)
            said = await made.weigh()
            assert isinstance(said, NoWeight)
            made.simulator.faults.clear()
            await made.recovered()

    run(main())


@scales
def test_a_scale_that_was_unplugged_comes_back(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            await made.simulator.control({"cmd": "unplug"})
            await made.made.until(lambda: made.scale.status.state is DeviceState.GONE, "a scale that is gone")
            said = await made.weigh()
            assert isinstance(said, NoWeight)
            assert said.reason == "unreachable"
            await made.simulator.control({"cmd": "replug"})
            await made.recovered()

    run(main())


@scales
def test_another_device_on_the_line_is_named_and_never_weighs(driver_id: str, url: str) -> None:
    """The line answers everything with a ZVT greeting."""

    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.made.on_line = lambda line: line.watch(None, lambda _, __: [Delivery(b"\x06\xd1\x05\x00HELLO\r\n")])
            await made.made.line.hub.close()
            await made.made.until(lambda: made.scale.status.state is DeviceState.FAULTY, "a faulty scale")
            assert made.scale.status.problem == "not_this_scale"
            made.made.on_line = None
            await made.recovered()

    run(main())
