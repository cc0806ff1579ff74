"""What a printer does with whole commands: lines on paper, cut into receipts, as text and for a browser."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape

import segno

PAGES = {0: "cp437", 2: "cp850", 14: "cp737", 16: "cp1252", 17: "cp866", 18: "cp852", 19: "cp858"}
DOTS_PER_LINE = 30
"""Line spacing as it is after switching on."""
RECEIPTS_MAX = 500
"""Kept; older ones are swept up."""
_NOT_SHOWN = (
    b"\x1dh", b"\x1dw", b"\x1df", b"\x1dH", b"\x1da", b"\x1db", b"\x1dB", b"\x1bM", b"\x1b-", b"\x1b{",
)  # fmt: skip
"""Sizes of bar codes, automatic status, fonts and styles that make no other text."""
_ALIGNED = ("left", "center", "right")
_PAGE_STYLE = """
body { background: #555; margin: 2em 1em; font-family: "DejaVu Sans Mono", monospace; }
"""
_PAPER_STYLE = """
article { background: #fff; color: #111; width: max-content; max-width: 100%%; margin: 0 auto 1.5em; padding: 1em 1.5ch;
  box-sizing: border-box; box-shadow: 0 2px 8px #0008; border-bottom: 2px dashed #999;
  font: min(15px, calc((100vw - 3rem) / %(ems)s))/1.35 "DejaVu Sans Mono", monospace; }
article.uncut { border-bottom: 0; }
article p { margin: 0; min-height: 1.35em; min-width: %(columns)sch; white-space: pre; }
article img, article svg { max-width: 100%%; height: auto; }
.center { text-align: center; } .right { text-align: right; } .bold { font-weight: bold; }
.large { font-size: 200%%; line-height: 1.35; } article p.large { min-width: 0; }
.barcode { letter-spacing: .1em; padding-top: 3em;
  background: repeating-linear-gradient(90deg, #000 0 2px, #fff 2px 5px, #000 5px 6px, #fff 6px 9px) no-repeat;
  background-size: 100%% 2.8em; }
"""
"""A letter of the paper is as large as a phone's width allows, so that nobody has to scroll sideways."""
_EMS_A_COLUMN = 0.61
_EDGE_COLUMNS = 3


@dataclass(frozen=True, slots=True)
class PaperLine:
    """One line, code or picture as it stands on the paper."""

    text: str
    align: str = "left"
    bold: bool = False
    large: bool = False
    kind: str = "text"
    """text, qr, barcode or picture."""
    picture: bytes = b""
    """A PNG file."""

    def plain(self, columns: int) -> str:
        """As a line of text, where it stands."""
        room = columns // 2 if self.large else columns
        match self.align:
            case "center":
                return (" " * ((room - len(self.text)) // 2) + self.text).rstrip()
            case "right":
                return self.text.rjust(room)
        return self.text.rstrip()


@dataclass(slots=True)
class Receipt:
    """What lies between two cuts, and the bytes that made it."""

    number: int
    lines: list[PaperLine] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    cut: bool = False


@dataclass(slots=True)
class _Style:
    page: int = 0
    align: str = "left"
    bold: bool = False
    large: bool = False


class Paper:
    """The mechanism: it does one whole command at a time and says how many lines of paper that took."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._style = _Style()
        self._line = ""
        self._qr = ""
        self.unknown: list[bytes] = []
        """Commands that mean nothing to it."""
        self.receipts: list[Receipt] = [Receipt(1)]

    def forget(self) -> None:
        """The power was cut: what is on paper stays."""
        self._style, self._line, self._qr = _Style(), "", ""

    def do(self, command: bytes) -> int:
        """Obey; return how many lines of paper it took."""
        receipt = self.receipts[-1]
        before = len(receipt.lines)
        receipt.raw += command
        if command[0] >= 0x20:
            self._type(command)
        elif command == b"\n":
            self._print_line()
        else:
            self._obey(command)
        return sum(2 if line.large else 1 for line in receipt.lines[before:])

    def _type(self, command: bytes) -> None:
        room = self._columns // 2 if self._style.large else self._columns
        if len(self._line) >= room:
            self._print_line()
        self._line += command.decode(PAGES.get(self._style.page, "cp437"), "replace")

    def _print_line(self) -> None:
        style = self._style
        self._add(PaperLine(self._line, style.align, style.bold, style.large))
        self._line = ""

    def _add(self, line: PaperLine) -> None:
        self.receipts[-1].lines.append(line)

    def _obey(self, command: bytes) -> None:
        style, last = self._style, command[-1]
        match command[:2]:
            case b"\x1b@":
                self._style, self._line, self._qr = _Style(), "", ""
            case b"\x1bt":
                style.page = last
            case b"\x1b!":
                style.large, style.bold = last & 0x30 == 0x30, bool(last & 0x08)
            case b"\x1bE":
                style.bold = bool(last & 1)
            case b"\x1ba":
                style.align = _ALIGNED[last % 48 % 3]
            case b"\x1bd":
                self._feed(last)
            case b"\x1dV":
                self._cut(command)
            case b"\x1dk":
                data = command[3:-1] if command[2] < 65 else command[4:]
                text = data.decode("ascii", "replace").removeprefix("{B").replace("{{", "{")
                self._add(PaperLine(text, style.align, kind="barcode"))
            case b"\x1d(" if command[2:3] == b"k":
                self._symbol(command[5:])
            case b"\x1dv":
                width, rows = command[4] + 256 * command[5], command[6] + 256 * command[7]
                self._picture(command[8:], width, rows)
            case _ if len(command) > 1 and command[:2] not in _NOT_SHOWN:
                self.unknown.append(command)

    def _feed(self, lines: int) -> None:
        if self._line:
            self._print_line()
        for _ in range(lines):
            self._add(PaperLine(""))

    def _cut(self, command: bytes) -> None:
        if len(command) == 4:
            self._feed(-(-command[3] // DOTS_PER_LINE))
        self.receipts[-1].cut = True
        self.receipts.append(Receipt(self.receipts[-1].number + 1))
        del self.receipts[:-RECEIPTS_MAX]

    def _symbol(self, function: bytes) -> None:
        if function[:3] == b"1P0":
            self._qr = function[3:].decode("ascii", "replace")
        elif function[:2] == b"1Q" and self._qr:
            self._add(PaperLine(self._qr, self._style.align, kind="qr"))

    def _picture(self, dots: bytes, width_bytes: int, rows: int) -> None:
        shown = png(dots, width_bytes, rows)
        self._add(PaperLine(f"[{8 * width_bytes}x{rows}]", self._style.align, kind="picture", picture=shown))

    # -- looking at it -------------------------------------------------------------------------------------------------

    def as_json(self) -> list[dict[str, object]]:
        """All receipts for the control socket; the last one is not cut."""
        return [
            {
                "number": receipt.number,
                "cut": receipt.cut,
                "lines": [line.plain(self._columns) for line in receipt.lines],
                "bytes": receipt.raw.hex(),
            }
            for receipt in self.receipts
        ]

    def as_html(self) -> str:
        """A page with all receipts, newest first."""
        shown = self.newest_as_html(len(self.receipts))
        view = "<meta name='viewport' content='width=device-width'>"
        head = f"<meta charset='utf-8'>{view}<title>Printer</title><style>{_PAGE_STYLE}{self.style}</style>"
        return f"<!doctype html><html lang='en'><head>{head}</head><body>{shown}</body></html>"

    @property
    def style(self) -> str:
        """The stylesheet of `newest_as_html`."""
        ems = round(_EMS_A_COLUMN * (self._columns + _EDGE_COLUMNS), 2)
        return _PAPER_STYLE % {"columns": self._columns, "ems": ems}

    def newest_as_html(self, count: int) -> str:
        """The newest receipts with something on them, newest first: parts of a page that has `style`."""
        written = [one for one in reversed(self.receipts) if one.lines]
        return "".join(map(_article, written[:count]))


def _article(receipt: Receipt) -> str:
    lines = "".join(map(_paragraph, receipt.lines))
    return f"<article class='{'cut' if receipt.cut else 'uncut'}'>{lines}</article>"


def _paragraph(line: PaperLine) -> str:
    classes = [line.align, *(name for name, on in (("bold", line.bold), ("large", line.large)) if on)]
    content = escape(line.text)
    if line.kind == "qr":
        content = _qr_code(line.text)
    elif line.kind == "picture":
        content = f"<img alt='' src='data:image/png;base64,{base64.b64encode(line.picture).decode('ascii')}'>"
    elif line.kind == "barcode":
        content = f"<span class='barcode'>{content}</span>"
    return f"<p class='{' '.join(classes)}'>{content}</p>"


@lru_cache(maxsize=64)
def _qr_code(text: str) -> str:
    """Kept, because whoever looks at the paper looks again every second."""
    image = io.BytesIO()
    segno.make(text, error="m", micro=False).save(image, kind="svg", scale=4, xmldecl=False)
    return image.getvalue().decode("utf-8")


def png(dots: bytes, width_bytes: int, rows: int) -> bytes:
    """One bit a dot, 1 is black; the PNG file has it the other way round."""
    body = b"".join(
        b"\x00" + bytes(0xFF ^ byte for byte in dots[row * width_bytes : (row + 1) * width_bytes])
        for row in range(rows)
    )
    header = struct.pack(">IIBBBBB", 8 * width_bytes, rows, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
