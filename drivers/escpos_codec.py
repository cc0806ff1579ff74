"""ESC/POS as bytes: documents into commands, answers into values. No I/O.

The subset that receipts need (Epson's public ESC/POS command reference); what a printer cannot show as a code is
printed as text, so no document is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from msgspec import Struct

from drivers.trace import size
from hubd.model.escpos_stream import REAL_TIME, for_printer
from hubd.model.printing import Align, Barcode, Cut, Drawer, Line, Logo, Qr, Raw, as_text, code_valid, likeness
from hubd.ports import Paper, PrinterCondition

ESC, GS, DLE = b"\x1b", b"\x1d", b"\x10"
INITIALISE = ESC + b"@"
"""Clears the line that is being put together and all styles; not what waits in the buffer before it."""
LINE_FEED = b"\n"
FEED_LINES_BEFORE_CUT = 6
"""The cutter stands above the head: the last line must have passed it."""
DOTS_PER_COLUMN = 12
"""Of the ordinary font, 12 by 24 dots."""
BARCODE_HEIGHT_DOTS, BARCODE_MODULE_DOTS = 64, 2
QR_MODULE_DOTS = 5
"""The largest code (300 characters, 69 modules) is 345 dots wide, which fits the narrowest paper."""
RASTER_BYTES_MAX, RASTER_ROWS_MAX = 1024, 255
"""Of one picture command: a printer with a small buffer takes it, and what it still waits for is soon given."""
COMMAND_BYTES_MAX = 1040
"""The longest single command; so many zeros end any command that was begun on a line that broke."""
PULSE_ON, PULSE_OFF = 0x32, 0x32
"""Of the drawer's solenoid, in units of 2 ms: 100 ms."""
DISPLAY_COLUMNS, DISPLAY_ROWS = 20, 2
DISPLAY_SELECT, DISPLAY_CLEAR, PRINTER_SELECT = ESC + b"=\x02", ESC + b"@", ESC + b"=\x01"
AUTO_STATUS_OFF = GS + b"a\x00"
"""GS a: from now on the printer speaks only when asked."""
PAPER_STATUS = GS + b"r\x01"
"""GS r: answered in its turn, after all that was sent before has been printed, and not while it cannot print."""
PROCESS_ID_LENGTH = 4

_MODE_LARGE, _MODE_PLAIN = 0x30, 0x00
_ALIGNMENTS = {Align.LEFT: 0, Align.CENTER: 1, Align.RIGHT: 2}
_PINS = {2: 0, 5: 1}


class CodePage(Struct, frozen=True):
    """A set of characters: its number for `ESC t`, and Python's name for it."""

    number: int
    codec: str


CODE_PAGES = (
    CodePage(19, "cp858"),
    CodePage(16, "cp1252"),
    CodePage(0, "cp437"),
    CodePage(18, "cp852"),
    CodePage(17, "cp866"),
    CodePage(14, "cp737"),
)
"""The first has the euro and western accents, and is where every document begins: printers differ in what they begin
with, and some have no other page. Then typographic signs, line drawing, Central Europe, Cyrillic, Greek."""


@cache
def _table(codec: str) -> dict[str, int]:
    """Byte by character, without control characters."""
    found = {bytes((byte,)).decode(codec, "ignore"): byte for byte in range(0x20, 0x100)}
    return {character: byte for character, byte in found.items() if character and character.isprintable()}


def _fitting(text: str, page: CodePage) -> int:
    """How many characters from the left the page has."""
    table = _table(page.codec)
    return next((at for at, one in enumerate(text) if one not in table), len(text))


def encode_text(text: str, page: CodePage) -> tuple[bytes, CodePage]:
    """The text with `ESC t` where the page must change, and the page that is selected at its end.

    The page stays as long as it has the next character; then the one is chosen that goes farthest. Control characters
    are dropped, so no text can hold a command.
    """
    rest = "".join(one for one in text if one.isprintable())
    out = bytearray()
    while rest:
        count = _fitting(rest, page)
        if count == 0:
            best = max(CODE_PAGES, key=lambda one: _fitting(rest, one))
            count = _fitting(rest, best)
            if count == 0:
                out += likeness(rest[0]).encode("ascii")
                rest = rest[1:]
                continue
            page = best
            out += select_page(page)
        table = _table(page.codec)
        out += bytes(table[one] for one in rest[:count])
        rest = rest[count:]
    return bytes(out), page


def select_page(page: CodePage) -> bytes:
    """ESC t."""
    return ESC + b"t" + bytes((page.number,))


def encode_style(*, bold: bool, large: bool) -> bytes:
    """ESC ! and ESC E: the first also sets the weight, so the second comes after it."""
    return ESC + b"!" + bytes((_MODE_LARGE if large else _MODE_PLAIN,)) + ESC + b"E" + bytes((bold,))


def encode_align(align: Align) -> bytes:
    """ESC a."""
    return ESC + b"a" + bytes((_ALIGNMENTS[align],))


def encode_qr(data: str, *, module_dots: int = QR_MODULE_DOTS, correction: str = "M") -> bytes:
    """GS ( k: model 2, size, correction L, M, Q or H, the data, print."""
    text = data.encode("ascii")
    size, level = bytes((module_dots,)), bytes((0x30 + "LMQH".index(correction),))
    parts = (b"\x31\x41\x32\x00", b"\x31\x43" + size, b"\x31\x45" + level, b"\x31\x50\x30" + text, b"\x31\x51\x30")
    return b"".join(GS + b"(k" + len(part).to_bytes(2, "little") + part for part in parts)


def encode_ean13(digits: str) -> bytes:
    """GS k, function A, with its digits below."""
    return _barcode_style() + GS + b"k\x02" + digits.encode("ascii") + b"\x00"


def encode_code128(data: str) -> bytes:
    """GS k, function B, code set B, with its text below."""
    symbols = b"{B" + data.replace("{", "{{").encode("ascii")
    return _barcode_style() + GS + b"k\x49" + bytes((len(symbols),)) + symbols


def _barcode_style() -> bytes:
    height, module = bytes((BARCODE_HEIGHT_DOTS,)), bytes((BARCODE_MODULE_DOTS,))
    return GS + b"h" + height + GS + b"w" + module + GS + b"f\x00" + GS + b"H\x02"


def code128_fits(data: str, columns: int) -> bool:
    """Whether code set B of it is no wider than the paper: a printer leaves out what is wider."""
    return (11 * len(data) + 35) * BARCODE_MODULE_DOTS <= columns * DOTS_PER_COLUMN


def encode_logo(logo: Logo, columns: int) -> Iterator[bytes]:
    """GS v 0, in bands; what is wider than the paper is cut off at the right.

    The picture may hold the bytes of a real-time command (10 04, 10 05, 10 14), which a printer would obey in the
    middle of it: such a place loses a dot or two.
    """
    width, shown = logo.width // 8, min(logo.width // 8, columns * DOTS_PER_COLUMN // 8)
    if not shown:
        return
    rows = [logo.rows[at : at + shown] for at in range(0, logo.height * width, width)]
    band = min(RASTER_ROWS_MAX, RASTER_BYTES_MAX // shown)
    for start in range(0, len(rows), band):
        part = rows[start : start + band]
        data = REAL_TIME.sub(b"\x10\x00", b"".join(part))
        yield GS + b"v0\x00" + shown.to_bytes(2, "little") + len(part).to_bytes(2, "little") + data


def encode_cut(*, partial: bool = True) -> bytes:
    """ESC d and GS V, leaving a bridge if `partial`."""
    return ESC + b"d" + bytes((FEED_LINES_BEFORE_CUT,)) + GS + b"V" + bytes((partial,))


def encode_pulse(pin: int) -> bytes:
    """ESC p for the drawer at pin 2 or 5; any other number is taken for 2."""
    return ESC + b"p" + bytes((_PINS.get(pin, 0), PULSE_ON, PULSE_OFF))


def encode_display(rows: Iterable[str]) -> bytes:
    """Text on the line display that hangs on the printer: ESC = 2, clear, the rows, and back to the printer.

    Each row fills its line, so that the next one begins at its own; a character that no page has is paraphrased.
    """
    page = CODE_PAGES[0]
    text, _ = encode_text("".join(_display_row(row) for row in list(rows)[:DISPLAY_ROWS]), page)
    return DISPLAY_SELECT + DISPLAY_CLEAR + (select_page(page) + text if text else b"") + PRINTER_SELECT


def _display_row(row: str) -> str:
    plain = "".join(one for one in row if one.isprintable())
    known = "".join(one if any(_fitting(one, page) for page in CODE_PAGES) else likeness(one) for one in plain)
    return known[:DISPLAY_COLUMNS].ljust(DISPLAY_COLUMNS)


@dataclass(slots=True)
class _Pen:
    """How the printer would write the next character."""

    page: CodePage
    align: Align = Align.LEFT
    bold: bool = False
    large: bool = False

    def write(self, line: Line) -> bytes:
        out = self._turn(line.align)
        if (self.bold, self.large) != (line.bold, line.large):
            self.bold, self.large = line.bold, line.large
            out += encode_style(bold=line.bold, large=line.large)
        text, self.page = encode_text(line.text, self.page)
        return out + text + LINE_FEED

    def _turn(self, align: Align) -> bytes:
        if self.align is align:
            return b""
        self.align = align
        return encode_align(align)

    def centre(self) -> bytes:
        return self._turn(Align.CENTER)


def encode_document(items: Iterable[Line | Qr | Barcode | Logo | Cut | Drawer | Raw], columns: int) -> Iterator[bytes]:
    """The document as whole commands: a line that breaks between two of them leaves no command half done.

    Codes and pictures are centred. Each piece is at most `COMMAND_BYTES_MAX` bytes or one line of text; those of a raw
    job are what they are, on a printer that was reset before it and is again after it.
    """
    pen = _Pen(CODE_PAGES[0])
    yield INITIALISE + select_page(pen.page)
    for item in items:
        match item:
            case Line():
                yield pen.write(item)
            case Logo():
                for band in encode_logo(item, columns):
                    yield pen.centre() + band
            case Cut():
                yield encode_cut()
            case Drawer(pin):
                yield encode_pulse(pin)
            case Raw():
                yield INITIALISE
                yield from for_printer(item.data)
                pen = _Pen(CODE_PAGES[0])
                yield INITIALISE + select_page(pen.page)
            case Qr() | Barcode():
                code = _encode_code(item, columns)
                if code:
                    yield pen.centre() + code + LINE_FEED
                for line in () if code else as_text(item, columns):
                    yield pen.write(line)


def _encode_code(item: Qr | Barcode, columns: int) -> bytes:
    """The code, or nothing when a printer could not print it."""
    if not code_valid(item):
        return b""
    match item:
        case Qr(data):
            return encode_qr(data)
        case Barcode(data, "ean13"):
            return encode_ean13(data)
        case Barcode(data) if code128_fits(data, columns):
            return encode_code128(data)
    return b""


def in_chunks(commands: Iterable[bytes], size_max: int) -> Iterator[bytes]:
    """Whole commands put together to at most `size_max` bytes; a longer command is a chunk of its own."""
    chunk = bytearray()
    for command in commands:
        if chunk and len(chunk) + len(command) > size_max:
            yield bytes(chunk)
            chunk.clear()
        chunk += command
    if chunk:
        yield bytes(chunk)


# -- what the printer is asked, and says -------------------------------------------------------------------------------


def ask_status(number: int) -> bytes:
    """DLE EOT: 1 printer, 2 why it is offline, 3 errors, 4 paper. Answered at once, whatever waits in the buffer."""
    return DLE + b"\x04" + bytes((number,))


def ask_process_id(number: str) -> bytes:
    """GS ( H function 48: the printer says this number once all that was sent before has been printed."""
    return GS + b"(H\x06\x00\x30\x30" + number.encode("ascii")


class Status(Struct, frozen=True):
    """The answers to DLE EOT 1, 2 and 4, and to 3 where it was asked."""

    printer: int
    offline: int
    paper: int
    error: int = 0x12

    @property
    def trouble(self) -> str:
        """Why it cannot print now; empty when it can."""
        if self.paper & 0x60 or self.offline & 0x20:
            return "paper_out"
        if self.offline & 0x04:
            return "cover_open"
        if self.offline & 0x40:
            if self.error & 0x08:
                return "cutter_jammed"
            return "overheated" if self.error & 0x40 and not self.error & 0x20 else "printer_error"
        return "offline" if self.printer & 0x08 else ""

    def condition(self, *, drawer_open_high: bool | None) -> PrinterCondition:
        """As the port says it. `drawer_open_high`: how pin 3 is while the drawer is open; None without a switch."""
        fed = Paper.LOW if self.paper & 0x0C else Paper.OK
        paper = Paper.OUT if self.trouble == "paper_out" else fed
        high = bool(self.printer & 0x04)
        is_open = None if drawer_open_high is None else high is drawer_open_high
        return PrinterCondition(paper, bool(self.offline & 0x04), is_open)


class RealTime(Struct, frozen=True):
    """An answer to DLE EOT; to which one, it does not say."""

    value: int


class Sensor(Struct, frozen=True):
    """An answer to GS r 1."""

    value: int


class ProcessId(Struct, frozen=True):
    """An answer to GS ( H."""

    number: str


class Foreign(Struct, frozen=True):
    """A byte that no printer that speaks ESC/POS says, or not here."""

    value: int


Answer = RealTime | Sensor | ProcessId | Foreign
_PROCESS_ID_BYTES, _AUTO_STATUS_BYTES = 7, 4
_FLOW_CONTROL = frozenset({0x11, 0x13})


class AnswerReader:
    """Bytes of the printer into answers. Status that it sends by itself (GS a) and XON/XOFF are left out."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, data: bytes) -> list[Answer]:
        """Take bytes, whole or in part."""
        answers: list[Answer] = []
        waiting = bytearray(data)
        waiting.reverse()
        while waiting:
            byte = waiting.pop()
            if not self._begun:
                self._begin(byte, answers)
            elif self._continues(byte):
                self._begun.append(byte)
                self._end(answers)
            else:
                # It only looked like the first byte of something longer: read again what came after it.
                again = self._begun[1:] + bytes((byte,))
                answers.append(Foreign(self._begun[0]))
                self._begun.clear()
                waiting += again[::-1]
        return answers

    def _begin(self, byte: int, answers: list[Answer]) -> None:
        if byte == 0x37 or byte & 0x93 == 0x10:
            self._begun.append(byte)
        elif byte & 0x93 == 0x12:
            answers.append(RealTime(byte))
        elif byte & 0xF0 == 0:
            answers.append(Sensor(byte))
        elif byte not in _FLOW_CONTROL:
            answers.append(Foreign(byte))

    def _continues(self, byte: int) -> bool:
        if self._begun[0] != 0x37:
            return byte & 0x90 == 0
        match len(self._begun):
            case 1:
                return byte == 0x22
            case 6:
                return byte == 0
        return 0x20 <= byte <= 0x7E

    def _end(self, answers: list[Answer]) -> None:
        if self._begun[0] == 0x37:
            if len(self._begun) == _PROCESS_ID_BYTES:
                answers.append(ProcessId(self._begun[2:6].decode("ascii")))
                self._begun.clear()
        elif len(self._begun) == _AUTO_STATUS_BYTES:
            self._begun.clear()


# -- traces ------------------------------------------------------------------------------------------------------------

_SHOWN_BYTES_MAX = 6
"""A command alone: too short for a card number."""


def describe_sent(data: bytes) -> list[str]:
    """What a trace may tell of bytes to the printer: short commands as they are, of a document its length."""
    return [data.hex(" ").upper() if len(data) <= _SHOWN_BYTES_MAX else f"{size(data)} to print"]


def describe_answer(answer: Answer) -> str:
    """What a trace may tell of what the printer says."""
    match answer:
        case RealTime(value):
            return f"status {value:02X}"
        case Sensor(value):
            return f"sensor {value:02X}"
        case ProcessId():
            return "printed up to here"
        case Foreign():
            return "a byte of no printer"
