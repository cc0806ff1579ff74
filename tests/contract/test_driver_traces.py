"""What a trace tells of a device's line: what happened, and of a card nothing, whatever the device says."""

from __future__ import annotations

import random  # noqa: TID251 - drivers are made here with a Runtime of their own
import re
import string
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.caisse_ap_codec import encode_elements
from drivers.concert_codec import REPORT_CHARACTERS, PaymentAnswer, encode_answer
from drivers.hid_scanner_codec import encode_code
from drivers.keyboard_scanner_codec import KeyEvent, encode_event
from drivers.kit.memory_line import memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.opi_codec import Element, frame, render
from drivers.poslink_codec import Dialect, Frame, encode_frame, encode_get
from drivers.registry import load
from drivers.runner import called
from drivers.trace import Describe, Trace, TracedStream, TraceLimits
from drivers.zvt_codec import _FIXED, _LLLVAR, _LLVAR, Apdu, build_fields, build_tlv, encode_apdu, encode_serial
from hubd.model.money import Money
from hubd.ports import Approved, Way
from hubd.runtime import Runtime, SystemClock, SystemIds
from tests.contract.terminal_bench import KINDS, bench, terminals_that

CARD = "5204739684211358"
SPACED = " ".join(CARD[at : at + 4] for at in range(0, 16, 4))
TRACK = f";{CARD}=29125010000000000000?"
FORMS = (CARD, SPACED, TRACK, f"%B{CARD}^DOE/JANE^2912?", f"kaart {CARD}")
PACKED = (bytes.fromhex(CARD), bytes.fromhex(CARD + "FF"), bytes.fromhex(f"{CARD}D29125010000"), CARD.encode("ascii"))
REGISTRY = load()
RUNTIME = Runtime(SystemClock(), SystemIds(), random.Random(7), b"b" * 16)
DRIVERS = [entry.manifest.id for entry in REGISTRY.entries if entry.manifest is not None]
OPTIONS = {driver: dict(kind.options) for driver, kind in KINDS.items()}
URLS = {driver: kind.urls[0] for driver, kind in KINDS.items()}


def describers_of(driver_id: str, url: str = "", **options: str) -> tuple[Describe, Describe]:
    """Of a driver that has no line yet, as the runner asks for them."""
    driver = REGISTRY.factory(driver_id)(RUNTIME, {**OPTIONS.get(driver_id, {}), **options})
    return driver.describers(url or URLS.get(driver_id, "serial:///dev/device"))


def tells_no_card(told: str) -> bool:
    """Neither its digits, whatever stands between them, nor the same as numbers of ASCII characters."""
    bare = re.sub(r"[ .,\-/|]", "", told)
    spelled = CARD.encode("ascii").hex().upper()
    return CARD[:8] not in bare and CARD[-8:] not in bare and spelled[:16] not in bare and "****" not in told


def test_the_check_itself_sees_a_card() -> None:
    assert not any(map(tells_no_card, (*FORMS, CARD.encode().hex().upper(), PACKED[2].hex().upper())))


# -- every field that can carry a card number ------------------------------------------------------------------------


def _zvt_blocks() -> Iterator[Apdu]:
    for value in PACKED:
        for tag in (*_LLVAR, *_LLLVAR):
            yield Apdu(0x040F, build_fields([(0x27, b"\0"), (tag, value), (0x87, b"\x00\x12")]))
        for tag, width in _FIXED.items():
            if width > 6:
                yield Apdu(0x060F, build_fields([(tag, value.ljust(width, b"0")[:width])]))
        for command in (0x060F, 0x040F, 0x04FF, 0x06D1, 0x06D3, 0x061E, 0x0501, 0x0A0A, 0x0600, 0x8400):
            yield Apdu(command, value)
            yield Apdu(command, b"\x06" + bytes((len(value) + 3,)) + build_tlv(0x1F10, value))


def _zvt() -> Iterator[bytes]:
    yield from (encode_apdu(block) for block in _zvt_blocks() if block.command >> 8 in (0x04, 0x05, 0x06, 0x84))


def _concert() -> Iterator[bytes]:
    answer = PaymentAnswer("01", "0", 2040, "1", "978")
    for at in range(REPORT_CHARACTERS - len(CARD)):
        yield encode_frame_of(encode_answer(answer, CARD[:10], (" " * at + CARD).ljust(REPORT_CHARACTERS)))
    yield encode_frame_of(encode_answer(answer, CARD[-10:]))


def encode_frame_of(found: object) -> bytes:
    """A Concert frame as it stands on the line."""
    from drivers.concert_codec import Frame as ConcertFrame
    from drivers.concert_codec import encode_frame as encode

    assert isinstance(found, ConcertFrame)
    return encode(found)


def _caisse_ap() -> Iterator[bytes]:
    tags = (left + right for left in string.ascii_uppercase for right in string.ascii_uppercase)
    yield from (encode_elements([("CZ", "0300"), (tag, form)]) for tag in tags for form in FORMS)


def _poslink_frames() -> Iterator[Frame]:
    for group in range(12):
        for field in range(6):
            for form in FORMS:
                yield Frame((*((("T01",),) * group), ("0",) * field + (form,), ("OK",)))


def _poslink() -> Iterator[bytes]:
    yield from map(encode_frame, _poslink_frames())


def _opi() -> Iterator[bytes]:
    names = ("CardServiceResponse", "Tender", "Authorisation", "TotalAmount", "Command", "TextLine", "Terminal", "X")
    attributes = (
        "RequestType", "RequestID", "WorkstationID", "OverallResult", "TerminalID", "STAN", "CardPAN", "Track2",
        "ReceiptNumber", "Merchant", "Currency", "ErrorCode", "POPID", "OutResult", "Column",
    )  # fmt: skip
    for form in FORMS:
        for name in names:
            yield frame(render(Element("A", {}, "", (Element(name, dict.fromkeys(attributes, form), form),))))
    yield frame(render(Element(f"N{CARD}")))


def _nexo() -> Iterator[bytes]:
    import json

    names = ("MessageClass", "MessageCategory", "MessageType", "ServiceID", "SaleID", "POIID", "DeviceID")
    for form in FORMS:
        for kind in ("SaleToPOIResponse", form):
            sealed = {"MessageHeader": dict.fromkeys(names, form), "NexoBlob": form}
            body = json.dumps({kind: sealed}).encode()
            yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Card: %s\r\n\r\n%s" % (len(body), form.encode(), body)


def _scans() -> Iterator[bytes]:
    yield from (form.encode() + b"\r" for form in FORMS)


def _keys() -> Iterator[bytes]:
    yield b"".join(encode_event(KeyEvent(0, 1, int(digit) + 1, 1)) for digit in CARD)


def _plain() -> Iterator[bytes]:
    yield from (form.encode() for form in FORMS)
    yield from PACKED


FROM_DEVICE = {
    "zvt": _zvt, "concert": _concert, "caisse_ap": _caisse_ap, "poslink": _poslink, "opi": _opi, "nexo": _nexo,
    "serial_scanner": _scans, "hid_scanner": lambda: iter(encode_code("]C0", CARD.encode())), "keyboard_scanner": _keys,
}  # fmt: skip


@pytest.mark.parametrize("driver_id", DRIVERS)
def test_no_field_of_a_device_brings_a_card_into_its_trace(driver_id: str) -> None:
    fields = list(FROM_DEVICE.get(driver_id, _plain)())
    assert fields
    for data in [*fields, *_plain()]:
        for split in (len(data), 7):
            for describe in describers_of(driver_id):
                told = [line for at in range(0, len(data), split) for line in describe(data[at : at + split])]
                assert told, "nothing is told"
                assert tells_no_card(" ".join(told)), (data, told)


def test_serial_blocks_and_http_are_no_way_around() -> None:
    for block in _zvt_blocks():
        told = describers_of("zvt", "serial:///dev/terminal")[1](encode_serial(block))
        assert tells_no_card(" ".join(told)), told
    for one in _poslink_frames():
        told = describers_of("poslink", dialect=Dialect.HTTP)[0](encode_get(encode_frame(one), "terminal"))
        assert tells_no_card(" ".join(told)), told


@pytest.mark.parametrize("driver_id", DRIVERS)
@settings(max_examples=60, deadline=None)
@given(chunks=st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=6))
def test_a_description_fails_on_nothing(driver_id: str, chunks: list[bytes]) -> None:
    for describe in describers_of(driver_id):
        for chunk in chunks:
            assert all(isinstance(line, str) for line in describe(chunk))


# -- on a runner -----------------------------------------------------------------------------------------------------


@terminals_that()
def test_a_payment_stands_in_the_trace_and_its_card_does_not(driver_id: str, url: str) -> None:
    async def main() -> list[tuple[Way, str]]:
        async with bench(driver_id, url) as made:
            made.simulator.faults.leak = CARD
            payment = await made.pay(Money(2040, "EUR"))
            assert isinstance(payment.outcome, Approved)
            lines = made.runner.trace.lines()
            assert all(left.number < right.number for left, right in pairwise(lines))
            return [(line.way, line.text) for line in lines]

    told = run(main())
    assert told[0] == (Way.LINE, "opened")
    assert {way for way, _ in told} == set(Way)
    text = "\n".join(line for _, line in told)
    assert tells_no_card(text), text
    assert "not described" not in text
    assert driver_id == "nexo" or "2040" in text or "20.40" in text, "a person cannot see what was asked for"


def test_a_trace_is_bounded_in_size_and_age_and_says_what_was_said_again() -> None:
    clock = VirtualClock()

    async def main() -> None:
        trace = Trace(clock, TraceLimits(size_bytes=2_000, age_s=60.0))
        for number in range(100):
            trace.note(Way.TO_DEVICE, [f"line {number}"])
        kept = trace.lines()
        assert 1 < len(kept) < 17
        assert kept[-1].text == "line 99"
        trace.note(Way.TO_DEVICE, ["line 99", "line 99"])
        assert trace.lines()[-1].times == 3
        assert [line.text for line in trace.lines(after=trace.lines()[-2].number)] == ["line 99"]
        await clock.sleep(61.0)
        assert trace.lines() == []

    run(main())


def test_a_description_that_fails_costs_no_dialogue_and_tells_a_length() -> None:
    def broken(data: bytes) -> list[str]:
        raise ValueError(data.decode("ascii"))

    async def main() -> list[str]:
        here, there = memory_pipe()
        trace = Trace(VirtualClock(), TraceLimits())
        stream = TracedStream(here, trace, broken, broken)
        await stream.write(CARD.encode())
        assert await there.read(100) == CARD.encode()
        await stream.write(b"again")
        return [line.text for line in trace.lines()]

    assert run(main()) == ["16 bytes, not described: ValueError", "5 bytes"]


@pytest.mark.parametrize("driver_id", DRIVERS)
def test_every_driver_has_a_name_for_its_device(driver_id: str) -> None:
    driver = REGISTRY.factory(driver_id)(RUNTIME, OPTIONS.get(driver_id, {}))
    assert called(driver) == REGISTRY.manifest(driver_id).kind.value
