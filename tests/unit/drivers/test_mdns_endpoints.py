"""What an announcement becomes: bounded, plain, known by its number, and nowhere outside the shop."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drivers.discovery.announcement import endpoint_of
from hubd.model.device import (
    ENDPOINT_NAME_MAX,
    IDENTITY_MAX,
    TXT_ITEMS_MAX,
    TXT_KEY_MAX,
    TXT_VALUE_MAX,
    Endpoint,
    Flaw,
    IdentitySource,
    plain,
)

SERVICE = "_zvt._tcp.local."
NAME = f"Counter 1.{SERVICE}"


def read(
    *addresses: str, name: str = NAME, port: int | None = 20007, loopback: bool = False, **txt: str | None
) -> Endpoint:
    properties = {key.encode(): None if value is None else value.encode() for key, value in txt.items()}
    return endpoint_of(SERVICE, name, addresses or ("192.168.1.7",), port, properties, loopback=loopback)


def test_it_is_known_by_its_number_else_by_its_name_and_never_by_its_address() -> None:
    seen = read(id="52-AB", model="X", flag=None)
    assert (seen.url, seen.name, seen.service) == ("tcp://192.168.1.7:20007", "Counter 1", SERVICE)
    assert (seen.identity, seen.identity_source) == ("serial:52-AB", IdentitySource.SERIAL_NUMBER)
    assert seen.txt == (("flag", ""), ("id", "52-AB"), ("model", "X"))
    assert read("192.168.1.8", ID="52-AB").identity == seen.identity
    assert read(serial="S-0001", id="52-AB").identity == "serial:S-0001"
    unnamed = read(id="x")
    assert (unnamed.identity, unnamed.identity_source) == (f"name:{NAME}", IdentitySource.NAME)


def printer(service: str = "_ipp._tcp.local.", **txt: str) -> Endpoint:
    properties = {key.encode(): value.encode() for key, value in txt.items()}
    return endpoint_of(service, f"Office.{service}", ["192.168.1.9"], 631, properties)


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("ipp/print", "/ipp/print"),
        ("/printers/a_b-c.1", "/printers/a_b-c.1"),
        ("", ""),
        ("//evil.test", ""),
        ("ipp?x=1", ""),
        ("ipp\r\nHost: x", ""),
        ("x" * 200, ""),
    ],
)
def test_a_path_that_a_printer_tells_is_part_of_its_address(path: str, url: str) -> None:
    assert printer(rp=path).url == f"tcp://192.168.1.9:631{url}"
    assert printer("_printer._tcp.local.", rp=path).url == "tcp://192.168.1.9:631"


def test_what_identifies_a_printer_is_kept_of_an_announcement_that_says_too_much() -> None:
    many = {f"key{number}": "x" for number in range(2 * TXT_ITEMS_MAX)}
    seen = printer(**many, UUID="1234-5678", rp="ipp/print", pdl="application/pdf")
    assert len(seen.txt) == TXT_ITEMS_MAX
    assert {"uuid", "rp", "pdl", "key0"} <= set(dict(seen.txt))
    assert (seen.identity, seen.url) == ("serial:1234-5678", "tcp://192.168.1.9:631/ipp/print")


@pytest.mark.parametrize("number", ["", "abc", "-abcd", "a b c d", "x" * 65, "abcd\u202e", "<b>abcd", "12345678\n"])
def test_a_number_that_is_none_is_not_an_identity(number: str) -> None:
    assert read(id=number).identity_source is IdentitySource.NAME


@pytest.mark.parametrize(
    ("addresses", "loopback", "url", "flaw"),
    [
        (("8.8.8.8",), False, "", Flaw.ADDRESS_REFUSED),
        (("127.0.0.1",), False, "", Flaw.ADDRESS_REFUSED),
        (("127.0.0.1",), True, "tcp://127.0.0.1:20007", Flaw.NONE),
        (("0.0.0.0",), True, "", Flaw.ADDRESS_REFUSED),
        (("224.0.0.251",), True, "", Flaw.ADDRESS_REFUSED),
        (("255.255.255.255",), True, "", Flaw.ADDRESS_REFUSED),
        (("8.8.8.8", "10.0.0.7"), False, "tcp://10.0.0.7:20007", Flaw.NONE),
        (("169.254.3.4",), False, "tcp://169.254.3.4:20007", Flaw.NONE),
        (("fe80::1",), False, "", Flaw.NO_ADDRESS),
    ],
)
def test_only_an_address_in_the_shop_is_taken(addresses: tuple[str, ...], loopback: bool, url: str, flaw: Flaw) -> None:
    seen = read(*addresses, loopback=loopback)
    assert (seen.url, seen.flaw) == (url, flaw)


def test_without_a_port_or_an_address_there_is_nowhere_to_go() -> None:
    assert read(port=None).flaw is Flaw.NO_ADDRESS
    assert read(port=0).url == ""
    assert endpoint_of(SERVICE, NAME, (), 1, {}).flaw is Flaw.NO_ADDRESS


@given(
    st.text(max_size=300), st.dictionaries(st.binary(max_size=200), st.none() | st.binary(max_size=400), max_size=40)
)
def test_whatever_is_announced_is_bounded_and_plain(name: str, txt: dict[bytes, bytes | None]) -> None:
    seen = endpoint_of(SERVICE, f"{name}.{SERVICE}", ("10.0.0.7",), 1, txt)
    texts = [(seen.name, ENDPOINT_NAME_MAX), (seen.identity, IDENTITY_MAX + len("serial:"))]
    texts += [(key, TXT_KEY_MAX * 3) for key, _ in seen.txt]  # folding the case may lengthen a letter
    texts += [(value, TXT_VALUE_MAX) for _, value in seen.txt]
    assert len(seen.txt) <= TXT_ITEMS_MAX
    for text, longest in texts:
        assert len(text) <= longest
        assert not [one for one in text if unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


def test_a_name_cannot_turn_a_line_around_or_begin_a_new_one() -> None:
    assert plain("a\x1b[2J\nb\u202ec\u2066", 60) == "a�[2J�b�c�"
    assert plain("x" * 61, 60) == "x" * 59 + "…"
    assert plain("  a \u3000 b ", 60) == "a � b"


def test_a_card_number_in_an_announcement_enters_nowhere() -> None:
    number = "4111 1111 1111 1111"
    seen = read(name=f"{number}.{SERVICE}", id=number.replace(" ", ""), note=f"x {number}")
    assert "1111" not in repr(replace(seen, key=""))
