"""Options of every driver: what it reads is declared, what is declared is read, and both agree on the values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from drivers.base import CURRENCY, DriverOptions, Manifest
from drivers.line_options import LINE_OPTIONS, line_options, with_line
from drivers.registry import load
from hubd.errors import DeviceError
from hubd.model.device_options import Option, OptionKind
from hubd.runtime import system_runtime

REGISTRY = load()
MANIFESTS = {entry.manifest.id: entry.manifest for entry in REGISTRY.entries if entry.manifest is not None}
EXAMPLES = {"poiid": "V400m-324688179", "key_identifier": "shop-1", "password": "123456", "language": "fr"}
OTHER_EXAMPLES = {"pos_number": "07", "workstation_id": "12", "pop_id": "002", "key_version": "2"}
drivers = pytest.mark.parametrize("driver", sorted(MANIFESTS))
RUNTIME = system_runtime()


class Watched(Mapping[str, str]):
    """Options that remember what was asked for."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)


def good_values(option: Option) -> list[str]:
    if option.kind is OptionKind.CHOICE:
        return list(option.choices)
    if option.kind is OptionKind.NUMBER:
        return [str(option.least), str(option.most)]
    return [{**EXAMPLES, **OTHER_EXAMPLES}[option.name]]


def usual(manifest: Manifest) -> dict[str, str]:
    """Values with which the driver starts, also where some have to be said."""
    said = {one.name: good_values(one)[0] for one in manifest.options if one.kind is not OptionKind.LEARNT}
    return said if manifest.id == "nexo" else {}


def made(manifest: Manifest, options: DriverOptions) -> Any:
    return REGISTRY.factory(manifest.id)(RUNTIME, options)


@drivers
def test_every_option_that_a_driver_reads_is_declared_and_every_declared_one_is_read(driver: str) -> None:
    manifest = MANIFESTS[driver]
    watched = Watched({CURRENCY: "EUR", **usual(manifest)})
    made(manifest, watched)
    assert watched.asked - {CURRENCY} == {option.name for option in manifest.options}


@drivers
def test_a_driver_takes_every_value_that_its_declaration_allows(driver: str) -> None:
    manifest = MANIFESTS[driver]
    for option in manifest.options:
        if option.kind is OptionKind.LEARNT:
            continue
        for value in [*good_values(option), *([option.default] if option.default else [])]:
            assert option.fits(value), (option.name, value)
            made(manifest, {**usual(manifest), option.name: value})


@drivers
def test_what_a_driver_refuses_its_declaration_refuses_too(driver: str) -> None:
    manifest = MANIFESTS[driver]
    tried = ("0", "1", "15", "97", "65536", "no", "12345", "1234567", "é", "01", "us", "high")
    for option in manifest.options:
        for value in tried if option.kind is not OptionKind.LEARNT else ():
            try:
                made(manifest, {**usual(manifest), option.name: value})
            except DeviceError:
                assert not option.fits(value), (option.name, value)


@drivers
def test_declarations_can_be_read_by_people(driver: str) -> None:
    manifest = MANIFESTS[driver]
    everything = [*manifest.options, *(one for options in LINE_OPTIONS.values() for one in options)]
    assert len({one.name for one in everything}) == len(everything), "one name, one meaning"
    for option in everything:
        assert option.title, option.name
        assert option.why.endswith((".", "…")), option.name
        assert not option.pattern or option.form, f"{option.name} has a pattern that nobody can read"
        assert not option.after or option.choices, f"{option.name} has no first choice to stay with"


def test_settings_of_a_line_are_laid_over_its_address() -> None:
    url = "serial:///dev/serial/by-id/x?baud=9600&stop_bits=1"
    assert with_line(url, {}) == with_line(url, {"columns": "32"}) == url
    set_ = {"baud": "19200", "parity": "even", "data_bits": "7"}
    assert with_line(url, set_) == ("serial:///dev/serial/by-id/x?baud=19200&stop_bits=1&data_bits=7&parity=even")
    assert with_line("evdev:///dev/input/event5", {"grab": "1", "baud": "9600"}) == "evdev:///dev/input/event5?grab=1"
    assert with_line("tcp://192.0.2.7:9100", {"baud": "9600"}) == "tcp://192.0.2.7:9100"


def test_what_an_address_says_of_its_line_is_the_default() -> None:
    found = {one.name: one.default for one in line_options("serial:///dev/ttyS0?baud=9600&stop_bits=1")}
    assert found == {"baud": "9600", "data_bits": "8", "parity": "none", "stop_bits": "1"}
    assert [one.name for one in line_options("evdev:///dev/input/event5")] == ["grab"]
    assert line_options("lp:///dev/usb/lp0") == ()
