"""A job of somebody else's bytes, taken apart: python-escpos makes them, the simulator's receiver judges lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from escpos.printer import Dummy
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from drivers.sim.escpos.paper import Paper
from drivers.sim.escpos.receiver import Receiver
from hubd.model.card_data import holds_card_data
from hubd.model.escpos_stream import (
    BAND_BYTES_MAX,
    Kind,
    Piece,
    StreamReader,
    for_printer,
    pieces_of,
    text_of,
)

PICTURE_END = b"\x10\x04\x01"


def receipt(picture: str = "bitImageRaster") -> bytes:
    """A receipt as python-escpos makes it."""
    made = Dummy()
    made.hw("INIT")
    made.charcode("CP858")
    made.set(bold=True, double_width=True, align="center", font="a")
    made.text("Café 10\n")
    image = Image.new("1", (200, 300), 1)
    for row in range(0, 300, 9):
        image.paste(0, (0, row, 200, row + 4))
    made.image(image, impl=picture)
    made.qr("https://x.test/p/1", native=True)
    made.barcode("4006381333931", "EAN13", width=2)
    made.barcode("{BR-000123", "CODE128", function_type="B")
    made.print_and_feed(2)
    made.buzzer(1, 1)
    made.cashdraw(2)
    made.cut()
    output: bytes = made.output
    return output


def shown(data: bytes) -> list[Any]:
    """The lines that these bytes are on paper, pictures by their height alone."""
    paper, receiver = Paper(42), Receiver()
    for byte in data:
        for command in receiver.take(byte)[1]:
            paper.do(command)
    rows, lines = 0, []
    for line in (line for one in paper.receipts for line in one.lines):
        if line.kind == "picture":
            rows += int(line.text.partition("x")[2][:-1])
        else:
            lines.append(line)
    return [rows, lines, [one.cut for one in paper.receipts]]


def test_a_receipt_is_the_same_on_paper_after_it_was_taken_apart() -> None:
    data = receipt()
    assert b"".join(piece.data for piece in pieces_of(data)) == data
    handed_on = list(for_printer(data))
    assert shown(b"".join(handed_on)) == shown(data)
    assert shown(data)[0] == 300
    assert max(map(len, handed_on)) <= BAND_BYTES_MAX + 8


@pytest.mark.parametrize("picture", ["bitImageRaster", "graphics", "bitImageColumn"])
def test_every_kind_of_picture_is_known_by_its_length(picture: str) -> None:
    pieces = list(pieces_of(receipt(picture)))
    texts = [piece.data for piece in pieces if piece.kind is Kind.TEXT]
    assert b"".join(texts).replace(b"\n", b"") == "Café 10".encode("cp858")
    assert any(piece.kind is Kind.PICTURE for piece in pieces)


@given(st.lists(st.integers(1, 60), max_size=60))
def test_how_the_line_parts_it_does_not_matter(sizes: list[int]) -> None:
    data, reader, found, at = receipt(), StreamReader(), list[Piece](), 0
    for size in [*sizes, len(data)]:
        found += reader.feed(data[at : at + size])
        at += size
    assert reader.begun == 0
    commands = [piece for piece in found if piece.kind is not Kind.TEXT]
    assert commands == [piece for piece in pieces_of(data) if piece.kind is not Kind.TEXT]


@given(st.binary(max_size=300))
def test_whatever_comes_nothing_is_lost_and_nothing_raises(data: bytes) -> None:
    reader = StreamReader()
    pieces = reader.feed(data)
    assert b"".join(piece.data for piece in pieces) + data[len(data) - reader.begun :] == data
    b"".join(for_printer(data))
    text_of(data)


COMMANDS = {
    "ESC *": b"\x1b*\x21\x02\x00" + bytes(6),
    "ESC * of 8 dots": b"\x1b*\x00\x03\x00" + bytes(3),
    "ESC &": b"\x1b&\x03\x41\x42\x02" + bytes(6) + b"\x01" + bytes(3),
    "ESC D": b"\x1bD\x08\x10\x18\x00",
    "ESC W": b"\x1bW" + bytes(8),
    "GS v 0": b"\x1dv0\x00\x02\x00\x03\x00" + bytes(6),
    "GS *": b"\x1d*\x01\x02" + bytes(16),
    "GS 8 L": b"\x1d8L\x03\x00\x00\x00abc",
    "GS ( L": b"\x1d(L\x02\x000\x32",
    "GS k A": b"\x1dk\x04CODE\x00",
    "GS k B": b"\x1dkI\x04{BAB",
    "GS V": b"\x1dV\x00",
    "GS V and feed": b"\x1dVB\x10",
    "GS C 1": b"\x1dC1" + bytes(6),
    "FS q": b"\x1cq\x01\x01\x00\x02\x00" + bytes(16),
    "FS g 1": b"\x1cg1\x00\x00\x00\x00\x00\x02\x00ab",
    "FS 2": b"\x1c2\x77\x21" + bytes(72),
    "DLE DC4": b"\x10\x14\x01\x00\x05",
    "DLE DC4 8": b"\x10\x14\x08" + bytes(7),
    "DLE EOT": b"\x10\x04\x01",
    "DLE EOT 7": b"\x10\x04\x07\x01",
    "DLE": b"\x10",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_lengths(name: str) -> None:
    command = COMMANDS[name]
    pieces = [piece.data for piece in pieces_of(b"before" + command + b"after\n")]
    assert pieces == [b"before", command, b"after\n"]
    for cut in range(1, len(command)):
        reader = StreamReader()
        assert reader.feed(command[:cut]) == []
        assert reader.begun == cut


@pytest.mark.parametrize(
    "question",
    [b"\x10\x04\x01", b"\x10\x05\x02", b"\x1dr\x01", b"\x1dI\x01", b"\x1da\xff", b"\x1d(H\x06\x00\x30\x30ABCD"],
)
def test_what_asks_for_an_answer_is_no_part_of_the_job_but_dots_are(question: bytes) -> None:
    assert b"".join(for_printer(b"one\n" + question + b"two\n")) == b"one\ntwo\n"
    dots = question.ljust(16, b"\x55")[:16]
    picture = b"\x1dv0\x00\x10\x00\x01\x00" + dots
    (piece,) = pieces_of(picture)
    assert (piece.kind, piece.data) == (Kind.PICTURE, picture)
    handed_on = b"".join(for_printer(picture))
    assert len(handed_on) == len(picture)
    assert PICTURE_END not in handed_on, "a printer would answer it in the middle of the picture"


@pytest.mark.parametrize(
    "command", [b"\x1d(E\x03\x00\x01IN", b"\x10\x14\x08" + bytes(7), b"\x10\x14\x02\x01\x08", COMMANDS["FS q"]]
)
def test_what_changes_the_printer_itself_is_left_out(command: bytes) -> None:
    assert b"".join(for_printer(b"text\n" + command)) == b"text\n"


def test_the_printer_is_selected_again_after_its_customers_display() -> None:
    assert b"".join(for_printer(b"\x1b=\x02Total 3.20")).endswith(b"Total 3.20\n\x1b=\x01")


def of(make: Callable[[Any], None]) -> str:
    """What can be read of a job of python-escpos."""
    printer = Dummy()
    make(printer)
    return text_of(printer.output)


CARD = "4111111111111111"


@pytest.mark.parametrize(
    "make",
    [
        lambda one: one.text(f"Card {CARD}\n"),
        lambda one: [(one.set(bold=n % 2 == 0), one.text(CARD[n : n + 4])) for n in range(0, 16, 4)],
        lambda one: one.qr(f"pan={CARD}", native=True),
        lambda one: one.barcode("{B" + CARD, "CODE128", function_type="B"),
        lambda one: one.text("4111\t1111\t1111\t1111\n"),
        lambda one: one._raw(b"4111\xff1111\xff1111\xff1111\n"),
        lambda one: one._raw(b"4111 11\x10\x04\x0111 1111 1111\n"),
        lambda one: one._raw(b"4111\x1b$\x40\x001111\x1b$\x80\x001111\x1b$\xc0\x001111\n"),
    ],
)
def test_a_card_number_is_seen_however_it_is_set(make: Callable[[Any], None]) -> None:
    assert holds_card_data(of(make))


@pytest.mark.parametrize(
    "make",
    [
        lambda one: one.text("4111 1111\n1111 1112\n"),
        lambda one: one.barcode("4006381333931", "EAN13"),
        lambda one: one.text("Table 4111\n") or one.cut() or one.text("1111 1111 1111\n"),
        lambda one: one._raw(b"\x1dv0\x00\x10\x00\x01\x00" + CARD.encode()),
    ],
)
def test_what_is_no_card_number_is_none(make: Callable[[Any], None]) -> None:
    assert not holds_card_data(of(make))
