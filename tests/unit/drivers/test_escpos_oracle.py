"""Our bytes against those that python-escpos makes: command by command, and whole receipts on the simulator's paper."""

from __future__ import annotations

import io
from typing import Any

import pytest
from escpos.printer import Dummy
from hypothesis import given
from hypothesis import strategies as st

from drivers.escpos_codec import (
    CODE_PAGES,
    encode_code128,
    encode_cut,
    encode_document,
    encode_ean13,
    encode_logo,
    encode_pulse,
    encode_qr,
    encode_text,
)
from drivers.sim.escpos.paper import Paper, png
from drivers.sim.escpos.receiver import Receiver
from hubd.model.printing import Align, Barcode, Cut, Drawer, Logo, PrintDocument, Qr, Row, Text, lay_out

CENTRED = {"align": "center"}


def theirs() -> Any:
    """A printer of the other library that keeps what it would send; the driver's first page is chosen."""
    made = Dummy()
    made.charcode("CP858")
    made.clear()
    return made


def said(call: str, *arguments: object, **named: object) -> bytes:
    printer = theirs()
    getattr(printer, call)(*arguments, **named)
    data: bytes = printer.output
    return data


@pytest.mark.parametrize(
    ("ours", "call", "arguments", "named"),
    [
        (encode_pulse(2), "cashdraw", (2,), {}),
        (encode_pulse(5), "cashdraw", (5,), {}),
        (encode_cut(partial=False), "cut", (), {}),
        (encode_cut(), "cut", ("PART",), {}),
        (encode_ean13("4006381333931"), "barcode", ("4006381333931", "EAN13"), {"width": 2, "align_ct": False}),
        (
            encode_code128("R-000123"),
            "barcode",
            ("{BR-000123", "CODE128"),
            {"function_type": "B", "width": 2, "align_ct": False},
        ),
    ],
)
def test_commands(ours: bytes, call: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert ours == said(call, *arguments, **named)


@pytest.mark.parametrize(("level", "number"), [("L", 0), ("M", 1), ("Q", 2), ("H", 3)])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("data", ["https://x.test/p/1", "x" * 300])
def test_qr_codes(data: str, size: int, level: str, number: int) -> None:
    assert encode_qr(data, module_dots=size, correction=level) == said("qr", data, ec=number, size=size, native=True)


@given(st.text(st.characters(codec="cp858", exclude_categories=("Cc", "Cf", "Zs")), max_size=40))
def test_text_of_the_first_page(text: str) -> None:
    assert encode_text(text, CODE_PAGES[0])[0] == said("text", text)


@given(st.integers(1, 12), st.binary(min_size=12, max_size=120))
def test_pictures(width_bytes: int, noise: bytes) -> None:
    # three bits a byte at most, so that no place looks like a real-time command
    dots = bytes(byte & 0xE0 for byte in noise)[: len(noise) // width_bytes * width_bytes]
    logo = Logo(8 * width_bytes, dots)
    image = io.BytesIO(png(dots, width_bytes, logo.height))
    assert b"".join(encode_logo(logo, 42)) == said("image", image, impl="bitImageRaster")


def printed(data: bytes) -> list[Any]:
    """The lines of all pieces of paper."""
    paper, receiver = Paper(42), Receiver()
    for byte in data:
        asked, commands = receiver.take(byte)
        assert asked == []
        for command in commands:
            paper.do(command)
    assert receiver.begun_bytes == 0
    assert {command[:2] for command in paper.unknown} <= {b"\x1bp"}, "the drawer is no business of the paper"
    return [(receipt.lines, receipt.cut) for receipt in paper.receipts]


def test_a_whole_receipt_is_the_same_on_paper() -> None:
    document = PrintDocument(
        "Receipt",
        (
            Text("Café du Marché", Align.CENTER, bold=True, large=True),
            Text("12, rue de l'Église - Liège", Align.CENTER),
            Row("Café crème", "3,20 €"),
            Row("TOTAL", "3,20 €", bold=True),
            Text("Merci, à bientôt", Align.RIGHT),
            Qr("https://x.test/p/1"),
            Barcode("4006381333931", "ean13"),
            Drawer(2),
            Cut(),
            Text("kitchen"),
            Cut(),
        ),
    )
    ours = b"".join(encode_document(lay_out(document, 42), 42))
    other = Dummy()
    other.hw("INIT")
    other.charcode("CP858")
    other.set(bold=True, double_width=True, double_height=True, **CENTRED)
    other.text("Café du Marché\n")
    other.set_with_default(**CENTRED)
    other.text("12, rue de l'Église - Liège\n")
    other.set_with_default()
    other.text(f"{'Café crème':<36}3,20 €\n")
    other.set(bold=True)
    other.text(f"{'TOTAL':<36}3,20 €\n")
    other.set_with_default(align="right")
    other.text("Merci, à bientôt\n")
    other.set_with_default(**CENTRED)
    other.qr("https://x.test/p/1", native=True, ec=1, size=5)
    other.text("\n")
    other.barcode("4006381333931", "EAN13", width=2)
    other.text("\n")
    other.cashdraw(2)
    other.cut("PART")
    other.set_with_default(**CENTRED)
    other.text("kitchen\n")
    other.cut("PART")
    first, second, rest = printed(ours)
    assert printed(other.output)[0] == first
    assert [line.text for line in second[0][:1]] == ["kitchen"]
    assert rest == ([], False)
