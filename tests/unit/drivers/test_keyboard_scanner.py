"""Keyboard scanners: key events, layouts that are learned, and persons who type."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import RECOVERS_WITHIN_S
from drivers.faces import RunnerScanner
from drivers.keyboard_layouts import LAYOUTS, Press, keys_of
from drivers.keyboard_scanner import KeyboardScanner
from drivers.keyboard_scanner_codec import (
    DOWN,
    ENTER,
    EV_KEY,
    EV_SYN,
    LEFT_SHIFT,
    RECORD,
    SYN_DROPPED,
    TAB,
    UP,
    KeyEvent,
    Keys,
    NotEvdevError,
    decode_event,
    encode_event,
    layout_of_text,
    layout_text,
    learn,
    read_line,
    text_of,
)
from drivers.kit.bench import PeripheralBench, peripheral_bench
from drivers.kit.virtual_time import run
from drivers.scan_text import TEXT_MAX, Refused
from drivers.sim.scanner import KeyboardScannerSimulator
from hubd.errors import DeviceError
from hubd.model.device import DeviceState
from hubd.model.scanner_test import TEST_CODE
from hubd.ports import Scan
from hubd.runtime import Runtime, system_runtime

EAN = "4006381333931"
URL = "evdev:///dev/input/event5"
layouts = pytest.mark.parametrize("name", LAYOUTS)
Steps = Sequence[tuple[int, int, int]]
"""Microseconds since the step before, key, value."""


def opened() -> Keys:
    keys = Keys()
    assert keys.wait_s is not None
    assert keys.quiet() == []
    return keys


def typed(steps: Steps) -> bytes:
    at_us, records = 1_790_000_000_000_000, []
    for pause_us, code, value in steps:
        at_us += pause_us
        records += [KeyEvent(at_us, EV_KEY, code, value), KeyEvent(at_us, EV_SYN, 0, 0)]
    return b"".join(map(encode_event, records))


def steps_of(text: str, pause_us: int = 2_000, end: int = ENTER) -> list[tuple[int, int, int]]:
    presses = [*keys_of(text, LAYOUTS["us"]), Press(end)]
    steps: list[tuple[int, int, int]] = []
    for press in presses:
        steps += [(pause_us, LEFT_SHIFT, DOWN)] * press.shift
        steps += [(pause_us, press.code, DOWN), (pause_us, press.code, UP)]
        steps += [(pause_us, LEFT_SHIFT, UP)] * press.shift
    return steps


def read(keys: Keys, data: bytes) -> list[Scan | Refused]:
    return [one if isinstance(one, Refused) else read_line(one, LAYOUTS["us"]) for one in keys.feed(data)]


def test_a_record_is_the_kernels() -> None:
    event = KeyEvent(1_790_000_000_250_000, EV_KEY, 5, DOWN)
    assert encode_event(event) == struct.pack("@llHHi", 1_790_000_000, 250_000, 1, 5, 1)
    assert decode_event(encode_event(event)) == event
    assert "5" not in repr(event)


@pytest.mark.parametrize(
    "fields", [(-1, 0, 1, 5, 1), (0, 1_000_000, 1, 5, 1), (0, -1, 1, 5, 1), (0, 0, 32, 5, 1), (0, 0, 1, 5, 3)]
)
def test_what_is_no_record_ends_the_line(fields: tuple[int, ...]) -> None:
    with pytest.raises(NotEvdevError):
        Keys().feed(RECORD.pack(*fields))


@layouts
def test_every_character_of_codes_has_its_key(name: str) -> None:
    text = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 -./+$%:;]#@"
    presses = keys_of(text, LAYOUTS[name])
    assert text_of(presses, LAYOUTS[name]) == text


def test_a_key_has_one_meaning_and_no_layout_has_a_dead_key() -> None:
    for layout in LAYOUTS.values():
        assert all(len(text) == 1 and text.isascii() and text.isprintable() for text in layout.values())
    with pytest.raises(ValueError, match="é"):
        keys_of("é", LAYOUTS["us"])


@layouts
def test_the_test_code_tells_the_layouts_apart(name: str) -> None:
    found = learn(keys_of(TEST_CODE, LAYOUTS[name]), unknown=False)
    assert found is not None
    assert found[0] == name


def test_a_layout_that_nobody_listed_is_learned_from_the_test_code() -> None:
    swapped = {press: {"A": "Z", "Z": "A", "7": "1", "1": "7"}.get(text, text) for press, text in LAYOUTS["de"].items()}
    presses = keys_of(TEST_CODE, swapped)
    assert learn(presses, unknown=False) is None
    found = learn(presses, unknown=True)
    assert found is not None
    name, layout = found
    assert name == "learned"
    assert text_of(keys_of("AZ17", swapped), layout) == "AZ17"
    assert text_of(keys_of("Xy", swapped), layout) is None
    assert layout_of_text(layout_text(layout)) == layout, "it is kept as text, and known again"


@pytest.mark.parametrize("text", ["", "zz", "1e0", "1e0" * len(TEST_CODE), "1e4" * len(TEST_CODE)])
def test_a_text_that_is_no_layout_is_none(text: str) -> None:
    assert layout_of_text(text) is None


def test_what_is_not_the_test_code_teaches_nothing() -> None:
    for text in (EAN, TEST_CODE[:-1], "A" * len(TEST_CODE), TEST_CODE[::-1]):
        assert learn(keys_of(text, LAYOUTS["us"]), unknown=True) is None


def test_a_card_is_refused_on_whichever_layout_it_was_typed() -> None:
    for typed_on in LAYOUTS.values():
        presses = keys_of("4111111111111111", typed_on)
        for known in (None, *LAYOUTS.values()):
            assert read_line(presses, known) is Refused.CARD_DATA


def test_without_a_layout_nothing_is_told() -> None:
    assert read_line(keys_of(EAN, LAYOUTS["us"]), None) is Refused.NO_LAYOUT
    assert read_line([Press(999), *keys_of(EAN, LAYOUTS["us"])], LAYOUTS["us"]) is Refused.UNREADABLE


@pytest.mark.parametrize("end", [ENTER, TAB, 96])
def test_a_machines_line_is_a_scan(end: int) -> None:
    assert read(opened(), typed(steps_of(EAN, end=end))) == [Scan(EAN)]
    assert read(opened(), typed(steps_of("]E0" + EAN, end=end))) == [Scan(EAN, "ean13")]


@pytest.mark.parametrize("pause_us", [60_000, 120_000, 700_000])
def test_a_person_who_types_makes_no_scan(pause_us: int) -> None:
    keys = opened()
    assert read(keys, typed(steps_of(EAN, pause_us))) == []
    assert keys.pending == 0
    assert read(keys, typed(steps_of(EAN))) == [Scan(EAN)]


def test_two_fast_keys_of_a_person_make_no_scan() -> None:
    assert read(opened(), typed(steps_of("12"))) == []


def test_what_a_person_began_does_not_get_into_a_scan() -> None:
    keys = opened()
    begun = [(0, 2, DOWN), (90_000, 2, UP)]
    scan = steps_of(EAN)
    assert read(keys, typed([*begun, (600_000, scan[0][1], DOWN), *scan[1:]])) == [Scan(EAN)]


def test_a_pause_in_a_machines_line_drops_it_whole() -> None:
    for at in range(8, len(steps_of(EAN)) - 2):
        for pause_us in (60_000, 800_000, 10_000_000):
            keys = opened()
            steps = steps_of(EAN)
            steps[at] = (pause_us, *steps[at][1:])
            assert not any(isinstance(one, Scan) for one in read(keys, typed(steps)))
            assert read(keys, typed(steps_of(EAN))) == [Scan(EAN)]


def test_a_lost_or_doubled_movement_of_any_key_drops_the_line() -> None:
    steps = steps_of("AB" + EAN)
    for at in range(len(steps)):
        for spoiled in (steps[:at] + steps[at + 1 :], steps[: at + 1] + steps[at:]):
            keys = opened()
            told = [one for one in read(keys, typed(spoiled)) if isinstance(one, Scan)]
            assert told in ([], [Scan("AB" + EAN)] if at == len(steps) - 1 else []), at
            read(keys, typed(steps_of(EAN)))
            assert read(keys, typed(steps_of(EAN))) == [Scan(EAN)]


def test_a_time_that_jumps_and_comes_back_drops_the_line() -> None:
    for at in range(len(steps_of(EAN))):
        for jump_us in (1_000_000, 2**40, -1_000_000, -(2**40)):
            keys = opened()
            steps = steps_of(EAN)
            steps[at] = (steps[at][0] + jump_us, *steps[at][1:])
            if at + 1 < len(steps):
                steps[at + 1] = (steps[at + 1][0] - jump_us, *steps[at + 1][1:])
            told = [one for one in read(keys, typed(steps)) if isinstance(one, Scan)]
            assert told in ([], [Scan(EAN)]), (at, jump_us)


def test_events_that_the_kernel_dropped_drop_the_line() -> None:
    keys = opened()
    dropped = encode_event(KeyEvent(1_790_000_000_000_000, EV_SYN, SYN_DROPPED, 0))
    half = len(typed(steps_of(EAN))) // 2 // (2 * RECORD.size) * 2 * RECORD.size
    data = typed(steps_of(EAN))
    assert not any(isinstance(one, Scan) for one in read(keys, data[:half] + dropped + data[half:]))
    assert read(keys, data) == [Scan(EAN)]


@pytest.mark.parametrize("held", [29, 56, 125])
def test_commands_are_no_characters(held: int) -> None:
    steps = [(1_000, held, DOWN), *steps_of(EAN)[:-2], (1_000, held, UP), (1_000, ENTER, DOWN), (1_000, ENTER, UP)]
    assert read(opened(), typed(steps)) == [Refused.UNREADABLE]


def test_a_line_without_end_is_bounded_and_forgotten() -> None:
    keys = opened()
    read(keys, typed(steps_of("7" * (3 * TEXT_MAX))[:-2]))
    assert keys.pending <= TEXT_MAX + 1
    keys = opened()
    read(keys, typed(steps_of("4111111111111111")[:-2]))
    assert keys.wait_s is not None
    assert keys.quiet() == [Refused.UNFINISHED]
    assert keys.pending == 0


@given(st.lists(st.tuples(st.binary(max_size=100), st.booleans()), max_size=20))
def test_any_bytes_are_survived(steps: list[tuple[bytes, bool]]) -> None:
    keys = Keys()
    for data, quiet in steps:
        try:
            keys.feed(data)
        except NotEvdevError:
            return
        if quiet:
            keys.quiet()
        assert keys.pending <= TEXT_MAX + 1 + RECORD.size


@given(
    st.lists(
        st.tuples(
            st.integers(-100_000, 1_500_000), st.sampled_from([2, 3, 30, 42, 54, 100, 28, 15]), st.integers(0, 2)
        ),
        max_size=80,
    )
)
def test_any_order_of_keys_ends_with_a_scan_at_last(steps: list[tuple[int, int, int]]) -> None:
    keys = opened()
    keys.feed(typed(steps))
    late = [(3_000_000, 57, DOWN), (1_000, 57, UP), (700_000, 57, DOWN), (1_000, 57, UP)]
    scans = [read(keys, typed([*late, (600_000, 5, DOWN), (1_000, 5, UP), *steps_of(EAN[1:])])) for _ in range(3)]
    assert scans[-1] == [Scan(EAN)]


def test_an_unknown_layout_in_the_options_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DeviceError, match="us, fr, be, de, nl") as caught:
        KeyboardScanner(system_runtime(), {"layout": "dvorak"})
    assert caught.value.code == "device.option_invalid"


def _french(runtime: Runtime) -> KeyboardScannerSimulator:
    return KeyboardScannerSimulator(runtime, "fr")


def heard_on(made: PeripheralBench[KeyboardScannerSimulator]) -> list[Scan]:
    heard: list[Scan] = []
    assert isinstance(made.face, RunnerScanner)
    made.face.listen(heard.append)
    return heard


def test_the_test_code_is_scanned_once_and_remembered_over_a_lost_line() -> None:
    async def main(made: PeripheralBench[KeyboardScannerSimulator]) -> None:
        heard = heard_on(made)
        await made.until(lambda: made.face.status.problem == "layout_unknown", "a scanner without a layout")
        assert made.face.status.state is DeviceState.FAULTY
        assert TEST_CODE in made.face.status.remedy
        await made.clock.sleep(1)
        await made.simulator.scan(EAN, "code128")
        await made.clock.sleep(1)
        assert heard == []
        await made.simulator.scan(TEST_CODE, "code128")
        await made.until(lambda: made.face.status.state is DeviceState.READY, "a layout", 10)
        await made.simulator.scan(EAN, "code128")
        await made.clock.sleep(1)
        await made.line.hub.close()
        await made.clock.sleep(1)
        await made.ready()
        await made.simulator.scan("AZ-12", "code128")
        await made.clock.sleep(1)
        assert heard == [Scan(EAN), Scan("AZ-12")], "the test code itself is no scan"

    async def running() -> None:
        async with asyncio.TaskGroup() as group:
            made = PeripheralBench(KeyboardScanner, URL, _french, {}, group, RECOVERS_WITHIN_S)
            task = group.create_task(made.runner.run(), name="runner")
            try:
                await main(made)
            finally:
                task.cancel()

    run(running())


def test_a_person_at_the_keyboard_is_never_heard() -> None:
    async def main() -> None:
        async with peripheral_bench(KeyboardScanner, URL, KeyboardScannerSimulator, {"layout": "us"}) as made:
            heard = heard_on(made)
            for step_s in (0.06, 0.12, 0.6):
                await made.simulator.type("rm -rf 4006381333931", step_s)
                await made.clock.sleep(1)
            assert heard == []
            await made.simulator.scan(EAN)
            await made.clock.sleep(1)
            assert heard == [Scan(EAN)]

    run(main())
