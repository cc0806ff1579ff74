"""ESC/POS in bytes: every vector that is known from elsewhere, both ways, and whatever else a line may carry."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.escpos_codec import (
    CODE_PAGES,
    COMMAND_BYTES_MAX,
    RASTER_BYTES_MAX,
    AnswerReader,
    Foreign,
    ProcessId,
    RealTime,
    Sensor,
    Status,
    ask_process_id,
    ask_status,
    code128_fits,
    encode_align,
    encode_cut,
    encode_display,
    encode_document,
    encode_logo,
    encode_pulse,
    encode_qr,
    encode_style,
    encode_text,
    in_chunks,
    select_page,
)
from hubd.model.printing import (
    Align,
    Barcode,
    Cut,
    Drawer,
    Item,
    Logo,
    PrintDocument,
    Qr,
    Row,
    Text,
    code_valid,
    lay_out,
)
from hubd.ports import Paper, PrinterCondition

CP858 = CODE_PAGES[0]


def encoded(*items: Item, columns: int = 42) -> bytes:
    """A document without the head that all of them have."""
    data = b"".join(encode_document(lay_out(PrintDocument("x", items), columns), columns))
    head = bytes.fromhex("1B 40 1B 74 13")
    assert data.startswith(head)
    return data[len(head) :]


QR = (
    "1D 28 6B 04 00 31 41 32 00 1D 28 6B 03 00 31 43 03 1D 28 6B 03 00 31 45 30"
    " 1D 28 6B 15 00 31 50 30 68 74 74 70 73 3A 2F 2F 78 2E 74 65 73 74 2F 70 2F 31 1D 28 6B 03 00 31 51 30"
)


@pytest.mark.parametrize(
    ("made", "vector"),
    [
        (encode_pulse(2), "1B 70 00 32 32"),
        (encode_pulse(5), "1B 70 01 32 32"),
        (encode_pulse(77), "1B 70 00 32 32"),
        (encode_cut(partial=False), "1B 64 06 1D 56 00"),
        (encode_cut(), "1B 64 06 1D 56 01"),
        (select_page(CP858), "1B 74 13"),
        (encode_text("Café 3€", CP858)[0], "43 61 66 82 20 33 D5"),
        (encode_text("Total 12.50", CP858)[0], b"Total 12.50".hex()),
        (encode_style(bold=True, large=False), "1B 21 00 1B 45 01"),
        (encode_style(bold=True, large=True), "1B 21 30 1B 45 01"),
        (encode_align(Align.CENTER), "1B 61 01"),
        (encode_qr("https://x.test/p/1", module_dots=3, correction="L"), QR),
        (b"".join(map(ask_status, (1, 2, 3, 4))), "10 04 01 10 04 02 10 04 03 10 04 04"),
        (ask_process_id("A1B2"), "1D 28 48 06 00 30 30 41 31 42 32"),
        (encode_display([]), "1B 3D 02 1B 40 1B 3D 01"),
        (
            encode_display(["Café", "3 €"]),
            "1B 3D 02 1B 40 1B 74 13 43 61 66 82" + "20" * 16 + "33 20 D5" + "20" * 17 + "1B 3D 01",
        ),
    ],
)
def test_vectors(made: bytes, vector: str) -> None:
    assert made == bytes.fromhex(vector)


def test_documents_are_made_of_the_vectors() -> None:
    assert encoded(Text("Total 12.50"), Drawer(2), Cut()) == bytes.fromhex(
        f"{b'Total 12.50'.hex()} 0A 1B 70 00 32 32 1B 64 06 1D 56 01"
    )
    ean = "1D 68 40 1D 77 02 1D 66 00 1D 48 02 1D 6B 02 34 30 30 36 33 38 31 33 33 33 39 33 31 00"
    assert encoded(Barcode("4006381333931", "ean13")) == bytes.fromhex(f"1B 61 01 {ean} 0A")
    assert encoded(Barcode("A{1")).endswith(b"\x1dk\x49\x06{BA{{1\n")
    assert b"\x1d(k\x03\x00\x31\x45\x31" in encoded(Qr("x")), "error correction M"


def test_styles_are_told_when_they_change_and_not_before() -> None:
    made = encoded(
        Text("a"), Text("b", Align.CENTER, bold=True), Text("c", Align.CENTER, bold=True), Text("d", large=True)
    )
    style = bytes.fromhex
    assert made == (
        b"a\n" + style("1B 61 01 1B 21 00 1B 45 01") + b"b\nc\n" + style("1B 61 00 1B 21 30 1B 45 00") + b"d\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("é€ß", b"\x82\xd5\xe1"),
        ("“quoted” – …", b"\x1bt\x10\x93quoted\x94 \x96 \x85"),
        ("Zażółć", b"Za\x1bt\x12\xbe\xa2\x88\x86"),
        ("Борщ 2€", b"\x1bt\x11\x81\xae\xe0\xe9 2\x1bt\x13\xd5"),
        ("Ωμέγα", b"\x1bt\x0e\x97\xa3\xe2\x9a\x98"),
        ("−5 a′", b"-5 a'"),
        ("ȩḑ", b"ed"),
        ("日本", b"??"),
        ("ﬁ", b"?"),
        ("\x1b@\x10\x04\x01\n\x00ok", b"@ok"),
        ("", b""),
    ],
)
def test_each_run_of_text_finds_its_code_page(text: str, expected: bytes) -> None:
    assert encode_text(text, CP858)[0] == expected


def test_the_page_stays_while_it_can_and_is_told() -> None:
    data, page = encode_text("“", CP858)
    assert (data, page.number) == (b"\x1bt\x10\x93", 16)
    assert encode_text("€", page)[0] == b"\x80", "the euro of that page, without going back"


@given(st.text(max_size=100), st.sampled_from(CODE_PAGES))
def test_no_text_can_hold_a_command(text: str, page: object) -> None:
    data, last = encode_text(text, CP858)
    count, pages = 0, {one.number for one in CODE_PAGES}
    rest = iter(data)
    for byte in rest:
        if byte == 0x1B:
            assert next(rest) == ord("t")
            assert next(rest) in pages
        else:
            assert byte >= 0x20
            assert byte != 0x7F
            count += 1
    assert count == sum(one.isprintable() for one in text), "columns were counted: one byte a character"
    assert last in CODE_PAGES


@given(st.text(st.characters(codec="cp858"), max_size=60))
def test_what_the_first_page_has_is_read_back(text: str) -> None:
    data, page = encode_text(text, CP858)
    assert page == CP858
    assert data.decode("cp858") == "".join(one for one in text if one.isprintable())


@pytest.mark.parametrize(
    ("item", "columns", "text"),
    [
        (Barcode("4006381333932", "ean13"), 42, b"4006381333932\n"),
        (Barcode("123", "ean13"), 42, b"123\n"),
        (Barcode("x" * 20), 42, b"x" * 20 + b"\n"),
        (Barcode("x" * 15), 32, b"x" * 15 + b"\n"),
        (Barcode("é"), 42, b"\x82\n"),
        (Barcode("A", "itf"), 42, b"A\n"),
        (Barcode("", "code128"), 42, b""),
        (Qr("h\u00e9"), 42, b"h\x82\n"),
        (Qr("x" * 301), 42, b"x" * 42 + b"\n"),
    ],
)
def test_what_cannot_be_a_code_is_text(item: Item, columns: int, text: bytes) -> None:
    made = encoded(item, columns=columns)
    assert b"\x1dk" not in made
    assert b"\x1d(k" not in made
    assert text in made


def test_codes_that_fit() -> None:
    assert code_valid(Barcode("4006381333931", "ean13"))
    assert not code_valid(Barcode("٤006381333931", "ean13"))
    assert not code_valid(Barcode("x" * 41))
    assert code128_fits("x" * 19, 42)
    assert not code128_fits("x" * 20, 42)
    assert b"\x1dk\x49\x10{B" in encoded(Barcode("x" * 14), columns=32)


def test_a_logo_is_sent_in_bands_no_wider_than_the_paper() -> None:
    made = list(encode_logo(Logo(16, b"\x80\x01" * 3), 42))
    assert made == [bytes.fromhex("1D 76 30 00 02 00 03 00 80 01 80 01 80 01")]
    wide = Logo(800, bytes(range(100)) * 40)
    bands = list(encode_logo(wide, 32))
    assert [band[4] for band in bands] == [48] * len(bands)
    assert sum(band[6] for band in bands) == 40
    assert all(len(band) <= RASTER_BYTES_MAX + 8 for band in bands)
    assert bands[0][8:56] == bytes(range(16)) + b"\x10\x11\x12" + bytes(range(19, 48))
    assert list(encode_logo(Logo(0, b""), 42)) == []
    assert list(encode_logo(Logo(8, b""), 42)) == []


@given(st.binary(max_size=300), st.integers(0, 12))
def test_no_picture_holds_a_real_time_command(dots: bytes, width_bytes: int) -> None:
    hostile = dots + b"\x10\x04\x01\x10\x10\x05\x10\x14" + dots
    for band in encode_logo(Logo(8 * width_bytes, hostile), 42):
        assert all((one, other) not in {(0x10, 4), (0x10, 5), (0x10, 0x14)} for one, other in itertools.pairwise(band))


@given(
    st.lists(
        st.one_of(
            st.builds(Text, st.text(max_size=80), large=st.booleans()),
            st.builds(Row, st.text(max_size=40), st.text(max_size=12)),
            st.builds(Qr, st.text(max_size=310)),
            st.builds(Barcode, st.text(max_size=50), st.sampled_from(["ean13", "code128", "?"])),
            st.builds(Logo, st.integers(0, 900), st.binary(max_size=2000)),
            st.builds(Drawer, st.integers(0, 9)),
            st.just(Cut()),
        ),
        max_size=8,
    ),
    st.sampled_from([32, 42, 48]),
)
def test_any_document_is_made_of_short_whole_commands(items: list[Item], columns: int) -> None:
    commands = list(encode_document(lay_out(PrintDocument("x", tuple(items)), columns), columns))
    assert all(0 < len(command) <= COMMAND_BYTES_MAX for command in commands)
    chunks = list(in_chunks(commands, 2048))
    assert b"".join(chunks) == b"".join(commands)
    assert all(len(chunk) <= 2048 for chunk in chunks)


def test_a_command_longer_than_a_chunk_stays_whole() -> None:
    assert list(in_chunks([b"ab", b"c", b"defgh", b"i"], 3)) == [b"abc", b"defgh", b"i"]
    assert list(in_chunks([], 3)) == []


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printer", "offline", "paper", "trouble", "condition"),
    [
        (0x12, 0x12, 0x12, "", PrinterCondition(Paper.OK, cover_open=False, drawer_open=False)),
        (0x16, 0x12, 0x12, "", PrinterCondition(Paper.OK, cover_open=False, drawer_open=True)),
        (0x1A, 0x32, 0x7E, "paper_out", PrinterCondition(Paper.OUT, cover_open=False, drawer_open=False)),
        (0x12, 0x12, 0x1E, "", PrinterCondition(Paper.LOW, cover_open=False, drawer_open=False)),
        (0x12, 0x12, 0x72, "paper_out", PrinterCondition(Paper.OUT, cover_open=False, drawer_open=False)),
        (0x1A, 0x16, 0x12, "cover_open", PrinterCondition(Paper.OK, cover_open=True, drawer_open=False)),
        (0x1A, 0x12, 0x12, "offline", PrinterCondition(Paper.OK, cover_open=False, drawer_open=False)),
        (0x1A, 0x52, 0x12, "printer_error", PrinterCondition(Paper.OK, cover_open=False, drawer_open=False)),
    ],
)
def test_status_bytes(printer: int, offline: int, paper: int, trouble: str, condition: PrinterCondition) -> None:
    status = Status(printer, offline, paper)
    assert status.trouble == trouble
    assert status.condition(drawer_open_high=True) == condition
    assert status.condition(drawer_open_high=None).drawer_open is None
    assert status.condition(drawer_open_high=False).drawer_open is not condition.drawer_open


@pytest.mark.parametrize(
    ("error", "trouble"),
    [(0x1A, "cutter_jammed"), (0x32, "printer_error"), (0x52, "overheated"), (0x72, "printer_error")],
)
def test_errors_have_names(error: int, trouble: str) -> None:
    assert Status(0x1A, 0x52, 0x12, error).trouble == trouble


def test_answers_are_told_apart() -> None:
    auto = bytes.fromhex("10 00 00 0F")
    data = b"\x12\x00" + ask_answer("A1B2") + auto + b"\x13\x0c\x11\xff" + b"\x1e"
    expected = [RealTime(0x12), Sensor(0), ProcessId("A1B2"), Sensor(0x0C), Foreign(0xFF), RealTime(0x1E)]
    assert AnswerReader().feed(data) == expected
    reader = AnswerReader()
    assert [answer for byte in data for answer in reader.feed(bytes((byte,)))] == expected


def ask_answer(number: str) -> bytes:
    return b"\x37\x22" + number.encode() + b"\x00"


def test_what_is_cut_short_hides_nothing_after_it() -> None:
    assert AnswerReader().feed(b"\x37\x22A1\x12") == [
        Foreign(0x37), Foreign(0x22), Foreign(0x41), Foreign(0x31), RealTime(0x12),
    ]  # fmt: skip
    assert AnswerReader().feed(b"\x10\x00" + ask_answer("ZZZZ")) == [Foreign(0x10), Sensor(0), ProcessId("ZZZZ")]
    assert AnswerReader().feed(b"\x37" + ask_answer("ZZZZ")) == [Foreign(0x37), ProcessId("ZZZZ")]


@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(0, 255))
def test_any_bytes_are_survived_and_splits_change_nothing(parts: list[bytes], last: int) -> None:
    whole, split = AnswerReader(), AnswerReader()
    together = whole.feed(b"".join(parts))
    assert [answer for part in parts for answer in split.feed(part)] == together
    assert len(together) <= sum(map(len, parts))
    # at most six bytes of something longer may wait: seven good ones are heard after whatever came before
    assert RealTime(0x12) in whole.feed(bytes((last,)) + b"\x12" * 8)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=4, max_size=4))
def test_process_ids_are_read_back(number: str) -> None:
    assert ask_process_id(number)[-4:] == number.encode()
    assert AnswerReader().feed(ask_answer(number)) == [ProcessId(number)]


def test_a_display_s_rows_keep_their_places_whatever_is_in_them() -> None:
    """Too long, with a command inside, with letters of other pages and none: the second row begins at its own place."""
    made = encode_display(["\x1b=\x01" + "x" * 30, "Œuf ✓ ½", "never"])
    assert made.count(b"\x1b=\x01") == 1, "no text can hold a command"
    assert made.startswith(b"\x1b=\x02\x1b@\x1bt\x13=" + b"x" * 19)
    assert made.endswith(b"\x1b=\x01")
    assert b"never" not in made
