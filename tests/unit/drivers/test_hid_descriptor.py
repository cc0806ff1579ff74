"""What a HID device is follows from its report descriptor, whatever bytes stand there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.discovery.hid_descriptor import Usage, applications
from tests.rigs.hid_descriptors import BOOT_KEYBOARD, KEYS_AND_MOUSE, POS_SCANNER

SCANNER, KEYBOARD, SOUND_KEYS, MOUSE = (0x8C, 0x02), (0x01, 0x06), (0x0C, 0x01), (0x01, 0x02)


@pytest.mark.parametrize(
    ("descriptor", "is_"),
    [
        (POS_SCANNER, (SCANNER,)),
        (BOOT_KEYBOARD, (KEYBOARD,)),
        (KEYS_AND_MOUSE, (SOUND_KEYS, MOUSE)),
        (BOOT_KEYBOARD + POS_SCANNER, (KEYBOARD, SCANNER)),
    ],
)
def test_a_device_is_what_its_outermost_collections_are_for(descriptor: bytes, is_: tuple[Usage, ...]) -> None:
    assert applications(descriptor) == is_


@pytest.mark.parametrize(
    ("descriptor", "is_"),
    [
        ("0B 02 00 8C 00 A1 01 C0", (SCANNER,)),  # a usage of four bytes that brings its page
        ("09 02 05 8C A1 01 C0", (SCANNER,)),  # the page that holds is that at the collection, not at the usage
        ("05 8C A4 05 01 B4 09 02 A1 01 C0", (SCANNER,)),  # push and pop
        ("05 8C FE 02 F0 05 01 09 02 A1 01 C0", (SCANNER,)),  # a long item, whose bytes are no items
        ("05 8C 09 02 09 06 A1 01 C0", (SCANNER,)),  # the first of several usages
        ("06 8C 00 0A 02 00 A1 01 C0", (SCANNER,)),  # numbers of two bytes
        ("05 01 09 06 A1 01 05 8C 09 02 A1 01 C0 C0", (KEYBOARD,)),  # an application within another one
        ("05 8C 09 02 A1 00 C0", ()),  # a physical collection
        ("05 8C 09 02 81 02 A1 01 C0", ()),  # the usage was that of the item before
        ("05 8C 09 02 A1 01", ()),  # never closed
        ("C0 05 8C 09 02 A1 01 C0", ()),  # closed before it was opened
        ("B4 05 8C 09 02 A1 01 C0", (SCANNER,)),  # a pop of nothing changes nothing
        ("05 8C 09 02 A1 01 C0 27 01", (SCANNER,)),  # cut short after the end
        ("", ()),
    ],
)
def test_items_of_every_form_are_read(descriptor: str, is_: tuple[Usage, ...]) -> None:
    assert applications(bytes.fromhex(descriptor)) == is_


@given(st.binary(max_size=200), st.integers(0, len(POS_SCANNER)))
def test_whatever_bytes_stand_there_it_says_something_of_16_bits(noise: bytes, cut: int) -> None:
    for descriptor in (noise, POS_SCANNER[:cut] + noise):
        assert all(0 <= usage <= 0xFFFF for _, usage in applications(descriptor))


@given(st.integers(1, len(POS_SCANNER) - 2))
def test_a_descriptor_that_is_cut_short_is_nobodys(cut: int) -> None:
    assert applications(POS_SCANNER[:cut]) == ()
