"""What every scanner driver must keep, whatever its line does: against its own simulator, in virtual time.

A scan that is told was made, is whole, and is told once; nothing of a payment card is ever told, noted or logged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from drivers.faces import RunnerScanner
from drivers.kit.bench import PeripheralBench, Spoil, peripheral_bench
from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from drivers.scan_gate import CARD_SHOWN_S
from drivers.serial_scanner_codec import SerialScans
from drivers.sim.scanner import (
    HidScannerSimulator,
    KeyboardScannerSimulator,
    ScannerSimulator,
    SerialScannerSimulator,
)
from hubd.model.card_data import gtin_valid, luhn_valid
from hubd.model.device import DeviceKind, DeviceState
from hubd.ports import Scan
from hubd.runtime import Runtime
from tests.contract.terminal_bench import REGISTRY

EAN, OTHER, COUPON = "4006381333931", "5901234123457", "AB-12/7.5"
SCAN_APART_S = 1.2
LATE_S = (0.2, 2.0, 8.0)
PAN = "4111111111111111"


@dataclass(frozen=True, slots=True)
class ScannerKind:
    """What a driver brings along for the contract."""

    driver_id: str
    url: str
    make: Callable[[Runtime], ScannerSimulator]
    options: Mapping[str, str] = field(default_factory=dict)
    tells_symbology: bool = True
    checked: bool = True
    """Whether damage shows: by a check digit that the scanner names, or by keys that go down and come up."""
    splits_s: float = 0.2
    """Longest pause inside one code that must not harm it."""


_SERIAL = partial(ScannerKind, "serial_scanner", "serial:///dev/scanner?baud=9600")
KINDS = {
    "serial-cr": _SERIAL(SerialScannerSimulator),
    "serial-crlf": _SERIAL(lambda runtime: SerialScannerSimulator(runtime, "crlf")),
    "serial-lf-plain": _SERIAL(
        lambda runtime: SerialScannerSimulator(runtime, "lf", identifiers=False), tells_symbology=False, checked=False
    ),
    "serial-quiet": _SERIAL(
        lambda runtime: SerialScannerSimulator(runtime, "quiet"), {"end": "quiet"}, checked=False, splits_s=0.03
    ),
    "hid": ScannerKind("hid_scanner", "hidraw:///dev/hidraw0", HidScannerSimulator, splits_s=0.08),
    "keyboard-us": ScannerKind(
        "keyboard_scanner", "evdev:///dev/input/event5?grab=1", KeyboardScannerSimulator, {"layout": "us"}, False
    ),
    "keyboard-fr": ScannerKind(
        "keyboard_scanner",
        "evdev:///dev/input/event5?grab=1",
        lambda runtime: KeyboardScannerSimulator(runtime, "fr"),
        {"layout": "fr"},
        False,
    ),
}
scanners = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
checked_scanners = pytest.mark.parametrize(
    "kind", [one for one in KINDS.values() if one.checked], ids=[name for name, one in KINDS.items() if one.checked]
)


class Bench:
    """A bench, the face of its scanner, and what was heard and made."""

    def __init__(self, kind: ScannerKind, made: PeripheralBench[ScannerSimulator]) -> None:
        assert isinstance(made.face, RunnerScanner)
        self.kind, self.made, self.scanner = kind, made, made.face
        self.simulator, self.clock = made.simulator, made.clock
        self.heard: list[Scan] = []
        self.made_scans: list[Scan] = []
        self.scanner.listen(self.heard.append)

    async def scan(self, text: str, symbology: str = "ean13", apart_s: float = SCAN_APART_S) -> None:
        """Read a code, and give what it says time to arrive."""
        self.made_scans.append(Scan(text, symbology if self.kind.tells_symbology else ""))
        await self.simulator.scan(text, symbology)
        await self.clock.sleep(apart_s)

    def judge(self) -> None:
        """Whatever was heard was made, whole, once, in this order. The symbology has no check of its own."""
        made = iter([one.text for one in self.made_scans])
        assert all(one.text in made for one in self.heard), f"heard {self.heard} where {self.made_scans} was made"

    async def recovered(self) -> None:
        """On a line that is well again, scans are heard again: at most three are lost to the damage."""
        for line in self.made.lines:
            line.watch()
        for attempt in range(4):
            await self.made.ready()
            await self.scan(OTHER if attempt % 2 else EAN, apart_s=3.0)
            if self.heard and self.heard[-1] == self.made_scans[-1]:
                self.judge()
                return
        raise AssertionError("it did not recover")


@asynccontextmanager
async def bench(kind: ScannerKind) -> AsyncIterator[Bench]:
    """A scanner from which one code was heard already: its habits are known."""
    recovers_within_s = REGISTRY.manifest(kind.driver_id).recovers_within_s
    made_of = (REGISTRY.factory(kind.driver_id), kind.url, kind.make, kind.options)
    async with peripheral_bench(*made_of, recovers_within_s=recovers_within_s) as made:
        ready = Bench(kind, made)
        await ready.scan(OTHER)
        assert ready.heard == ready.made_scans
        yield ready


def nth(index: int, deliver: Callable[[bytes], list[Delivery]]) -> Spoil:
    return lambda n, data: deliver(data) if n == index else [Delivery(data)]


def blocks_of_a_scan(kind: ScannerKind, text: str = EAN, symbology: str = "ean13") -> list[bytes]:
    async def main() -> list[bytes]:
        async with bench(kind) as made:
            made.made.line.watch()
            await made.scan(text, symbology)
            return list(made.made.line.device_blocks)

    return run(main())


def scan_with(kind: ScannerKind, spoil: Spoil) -> list[Scan]:
    """Two codes while the line is spoiled; what was heard of them. Then the line is well and it must work."""

    async def main() -> list[Scan]:
        async with bench(kind) as made:
            made.made.line.watch(None, spoil)
            await made.scan(EAN)
            await made.scan(OTHER, apart_s=9.0)
            made.judge()
            heard = made.heard[1:]
            await made.recovered()
            return heard

    return run(main())


def test_every_registered_scanner_driver_is_under_this_contract() -> None:
    manifests = [entry.manifest for entry in REGISTRY.entries]
    ids = {manifest.id for manifest in manifests if manifest and manifest.kind is DeviceKind.SCANNER}
    assert ids == {kind.driver_id for kind in KINDS.values()}


@scanners
def test_scans_are_heard_as_they_were_made(kind: ScannerKind) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            assert made.scanner.capabilities == REGISTRY.manifest(kind.driver_id).capabilities
            await made.scan(EAN)
            await made.scan("96385074", "ean8")
            await made.scan(COUPON, "code128")
            await made.scan("https://example.org/a?b=1", "qr")
            await made.scan(EAN, apart_s=0.3)
            await made.scan(EAN, apart_s=0.3)
            assert made.heard == made.made_scans
            assert made.scanner.status.state is DeviceState.READY

    run(main())


@scanners
def test_codes_split_at_every_byte_are_whole(kind: ScannerKind) -> None:
    longest = max(map(len, blocks_of_a_scan(kind)))
    for split in range(1, longest):

        def cut_in_two(_: int, data: bytes, split: int = split) -> list[Delivery]:
            return [Delivery(data[:split]), Delivery(data[split:], kind.splits_s if len(data) < 72 else 0.001)]

        assert len(scan_with(kind, cut_in_two)) == 2, split


@scanners
def test_byte_by_byte_changes_nothing(kind: ScannerKind) -> None:
    def slow(_: int, data: bytes) -> list[Delivery]:
        return [Delivery(data[at : at + 1], 0.001) for at in range(len(data))]

    assert len(scan_with(kind, slow)) == 2


@scanners
def test_every_lost_block_is_no_scan_or_the_right_one(kind: ScannerKind) -> None:
    for index in range(len(blocks_of_a_scan(kind))):
        scan_with(kind, nth(index, lambda _: []))


@scanners
def test_every_doubled_block_makes_no_second_scan(kind: ScannerKind) -> None:
    for apart_s in (0.0, 0.04):
        for index in range(len(blocks_of_a_scan(kind))):
            scan_with(kind, nth(index, lambda data, apart_s=apart_s: [Delivery(data), Delivery(data, apart_s)]))  # type: ignore[misc]  # the default binds the loop's value


@scanners
@pytest.mark.parametrize("late_s", LATE_S)
def test_every_late_block_is_no_scan_or_the_right_one(kind: ScannerKind, late_s: float) -> None:
    for index in range(len(blocks_of_a_scan(kind))):
        scan_with(kind, nth(index, lambda data: [Delivery(data, late_s)]))


LONG = "LOT-2026/11:" + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-./" * 2


@pytest.mark.parametrize("late_s", [0.0, 0.05, *LATE_S])
def test_codes_in_several_reports_are_whole_or_none(late_s: float) -> None:
    """Which report is lost but the first: nothing in a report says that there was one before it, and USB loses none."""
    kind = KINDS["hid"]
    blocks = blocks_of_a_scan(kind, LONG, "code128")
    assert len(blocks) == 2

    async def main(spoil: Spoil) -> None:
        async with bench(kind) as made:
            made.made.line.watch(None, spoil)
            await made.scan(LONG, "code128", apart_s=9.0)
            made.judge()
            await made.recovered()

    for index in range(2):
        if late_s:
            run(main(nth(index, lambda data: [Delivery(data, late_s)])))
        run(main(nth(index, lambda data: [Delivery(data), Delivery(data, min(late_s, 0.05))])))
        run(main(nth(index, lambda data: [Delivery(data[:20]), Delivery(data[20:], late_s)])))
    run(main(nth(1, lambda _: [])))
    run(main(lambda _, data: [Delivery(data), Delivery(data)]))


@pytest.mark.parametrize(
    "kind",
    [one for name, one in KINDS.items() if name != "serial-quiet"],
    ids=[n for n in KINDS if n != "serial-quiet"],
)
@pytest.mark.parametrize("late_s", LATE_S)
def test_a_late_half_makes_no_scan_of_the_other(kind: ScannerKind, late_s: float) -> None:
    blocks = blocks_of_a_scan(kind)
    for index in range(0, len(blocks), 5):
        for at in range(1, len(blocks[index]), 7):
            scan_with(
                kind,
                nth(index, lambda data, at=at: [Delivery(data[:at]), Delivery(data[at:], late_s)]),  # type: ignore[misc]  # as above
            )


@checked_scanners
@pytest.mark.timeout(120)
def test_every_damaged_byte_is_no_scan_or_the_right_one(kind: ScannerKind) -> None:
    """All bits where a code is one short block; with many blocks one bit of every byte of every fourth block."""
    blocks = blocks_of_a_scan(kind)
    for index in range(0, len(blocks), 1 if len(blocks) < 3 else 4):
        for at in range(len(blocks[index])):
            for bit in range(8) if len(blocks) < 3 else [(index // 4 + at) % 8]:

                def flip(data: bytes, at: int = at, bit: int = bit) -> list[Delivery]:
                    return [Delivery(data[:at] + bytes((data[at] ^ (1 << bit),)) + data[at + 1 :])]

                scan_with(kind, nth(index, flip))


@scanners
def test_a_line_cut_at_every_byte_makes_no_scan_of_a_half(kind: ScannerKind) -> None:
    async def main(cut_after: int) -> None:
        async with bench(kind) as made:
            device = made.made.line.device
            device.cut_after = device.bytes_written + cut_after
            await made.scan(EAN)
            made.judge()
            await made.recovered()

    size = sum(map(len, blocks_of_a_scan(kind)))
    for cut_after in range(1, size + 1, 1 if size < 100 else 17):
        run(main(cut_after))


@scanners
def test_a_line_that_is_opened_in_the_middle_of_a_code_makes_no_scan_of_its_rest(kind: ScannerKind) -> None:
    async def main(at: int) -> None:
        async with bench(kind) as made:
            rest = b"".join(made.simulator.blocks("A" * 70 + EAN, "code128"))[at:]
            made.made.on_line = lambda line: line.device._peer.deliver(rest)
            await made.made.line.hub.close()
            await made.clock.sleep(5)
            assert made.heard == made.made_scans
            made.made.on_line = None
            await made.recovered()

    for at in (5, 64, 24 * 3 * 40):
        run(main(at))


@scanners
def test_babble_is_no_scan(kind: ScannerKind) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            for _ in range(100):
                await made.made.line.device.write(made.made.runtime.rng.randbytes(64))
                await made.clock.sleep(made.made.runtime.rng.choice((0.001, 0.02, 0.6)))
                if not (made.made.works and made.made.line.device.alive):
                    await made.made.ready()
            await made.clock.sleep(1.0)
            assert made.heard == made.made_scans
            await made.recovered()

    run(main())


@scanners
def test_a_flood_is_bounded_and_survived(kind: ScannerKind) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            for _ in range(200):
                if not made.made.line.device.alive:
                    break
                await made.made.line.device.write(b"7" * 4096)
                await made.clock.sleep(0.01)
            await made.clock.sleep(8.0)
            made.judge()
            await made.recovered()

    run(main())


CARDS = (
    PAN, "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005", "6011111111111117", "30569309025904",
    "36227206271667", "6805330010086784747", "5555555555554444", "4222222222222", "card: 4111111111111111 thanks",
    "%B4111111111111111^DOE/JOHN^2512101123456789?", ";4111111111111111=25121011234567890?",
    "%B4111111111111111^DOE/JOHN^2512101123456789?;4111111111111111=25121011234567890?",
    "%B4111111111111112^DOE^2512?", ";1234567890=99?",
)  # fmt: skip


def insides(thing: object, depth: int = 6) -> str:
    """Everything that an object of ours holds, and the objects in it."""
    if depth == 0 or not type(thing).__module__.startswith("drivers.") or not hasattr(thing, "__dict__"):
        return repr(bytes(thing)) if isinstance(thing, bytearray) else repr(thing)
    return " ".join(f"{name}={insides(value, depth - 1)}" for name, value in vars(thing).items())


def test_insides_are_looked_at() -> None:
    scans = SerialScans()
    scans.feed(PAN.encode())
    assert PAN in insides(scans)


def digits(text: str) -> str:
    return re.sub(r"[ .\-/]", "", text)


@scanners
@pytest.mark.parametrize("way", ["whole", "split", "byte by byte", "doubled", "late half", "cut", "no end"])
def test_a_card_ends_nowhere(kind: ScannerKind, way: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def spoil(_: int, data: bytes) -> list[Delivery]:
        half = len(data) // 2
        match way:
            case "split":
                return [Delivery(data[:half]), Delivery(data[half:], 0.001)]
            case "byte by byte":
                return [Delivery(data[at : at + 1], 0.0001) for at in range(len(data))]
            case "doubled":
                return [Delivery(data), Delivery(data)]
            case "late half":
                return [Delivery(data[:half]), Delivery(data[half:], 0.0 if kind.splits_s < 0.05 else 8.0)]
            case "no end":
                return [Delivery(data.rstrip(b"\r\n"))]
        return [Delivery(data)]

    async def main() -> str:
        async with bench(kind) as made:
            for card in CARDS:
                for symbology in ("code128", "ean13", "gs1_128") if way == "whole" else ("code128",):
                    made.made.line.watch(None, spoil)
                    if way == "cut":
                        made.made.line.device.cut_after = made.made.line.device.bytes_written + 12
                    before = list(made.heard)
                    await made.simulator.scan(card, symbology)
                    await made.clock.sleep(10.0)
                    assert made.heard == before, card
                    await made.recovered()
            seen = repr(made.made.states) + repr(made.scanner.status)
            return seen + insides(made.made.runner.driver) + repr(made.heard)

    seen = run(main()) + caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    for card in CARDS:
        assert digits(card)[2:10] not in digits(seen), card


@scanners
def test_a_refused_card_is_counted_and_a_problem_that_people_see(kind: ScannerKind) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            for count in (1, 2):
                await made.simulator.scan(PAN, "code128")
                await made.clock.sleep(10.0)
                assert made.scanner.status.problem == "card_data_refused"
                assert made.scanner.status.state is DeviceState.FAULTY
                assert "payment cards" in made.scanner.status.remedy
                assert made.made.runner.driver.refused_cards == count  # type: ignore[attr-defined]  # every scanner counts
            await made.scan(EAN)
            assert made.heard == made.made_scans, "codes go on"
            await made.clock.sleep(CARD_SHOWN_S)
            assert made.scanner.status.state is DeviceState.READY

    run(main())


@scanners
def test_trade_item_numbers_that_look_like_cards_go_through(kind: ScannerKind) -> None:
    """Thirteen digits with a right GS1 check digit, also where Luhn and a card's beginning are right."""
    item = next(
        text
        for text in (f"4{number:011d}" for number in range(100_000))
        for text in (text + str(check) for check in range(10))
        if gtin_valid(text) and luhn_valid(text)
    )

    async def main() -> None:
        async with bench(kind) as made:
            await made.scan(item)
            assert made.heard == made.made_scans

    run(main())


@scanners
def test_a_scanner_that_was_unplugged_comes_back(kind: ScannerKind) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            await made.simulator.control({"cmd": "unplug"})
            await made.made.until(lambda: made.scanner.status.state is DeviceState.GONE, "a scanner that is gone")
            await made.simulator.control({"cmd": "replug"})
            await made.recovered()

    run(main())


@scanners
def test_readings_that_are_never_usable_are_a_problem(kind: ScannerKind) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            keys = kind.driver_id == "keyboard_scanner"
            made.made.line.watch(
                None, lambda n, data: [Delivery(data if keys and n % 5 else b"" if keys else data[: len(data) // 2])]
            )
            for _ in range(8):
                await made.scan(EAN)
                await made.clock.sleep(2.0)
            await made.clock.sleep(12.0)
            assert made.heard == made.made_scans[:1]
            assert made.scanner.status.problem == "scans_unusable"
            assert made.scanner.status.remedy

    run(main())
