"""Reports of HID POS barcode scanners (usage page 8C): bytes <-> values. Pure; time is told by calling `quiet`.

Sources: "HID Point of Sale Usage Tables" 1.02 names the fields; the layout of 64 bytes is the one that the USB manuals
of Hand Held Products (Honeywell) and Access-IS print: report id 2, length, three characters of the AIM identifier, 56
bytes of data filled with zeros, the maker's own identifier, a reserved byte, and a last byte whose bit 0 says that the
code goes on in the next report. Report descriptors are not read; a device with another layout is refused report by
report, and shown to have a problem.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.scan_text import TEXT_MAX, Refused, judge, raw_holds_a_card, split_identifier
from hubd.ports import Scan

REPORT_BYTES = 64
REPORT_ID = 2
DATA_BYTES = 56
_DATA = slice(5, 5 + DATA_BYTES)
_CONTINUED = 0x01
QUIET_S = 0.1
"""The reports of one code follow each other at once; what has begun is dropped after this long."""
REPORTS_MAX = TEXT_MAX // DATA_BYTES + 1


@dataclass(frozen=True, slots=True)
class Report:
    """One report. Its data may be of a card, so `repr` shows nothing of it."""

    identifier: str
    """Three characters, `]E0`."""
    data: bytes
    maker: int = 0
    """The maker's own identifier of the symbology."""
    continued: bool = False

    def __repr__(self) -> str:
        """Without the data."""
        return f"Report(identifier={self.identifier!r}, continued={self.continued})"


def decode_report(raw: bytes) -> Report | Refused:
    """One report of 64 bytes. Whatever is not as it must be refuses it, the filling too."""
    if len(raw) != REPORT_BYTES or raw[0] != REPORT_ID or not 1 <= raw[1] <= DATA_BYTES or raw[2] != ord("]"):
        return Refused.UNREADABLE
    data, filling = raw[_DATA][: raw[1]], raw[_DATA][raw[1] :]
    if any(filling) or raw[63] & ~_CONTINUED or not raw[2:5].isascii():
        return Refused.DAMAGED
    return Report(raw[2:5].decode("ascii"), data, raw[61], bool(raw[63] & _CONTINUED))


def encode_report(report: Report) -> bytes:
    """The 64 bytes; raises ValueError for what has no place in them."""
    if len(report.identifier) != 3 or not 1 <= len(report.data) <= DATA_BYTES:
        raise ValueError("a report has an identifier of three characters and 1 to 56 bytes of data")
    head = bytes((REPORT_ID, len(report.data))) + report.identifier.encode("ascii")
    return head + report.data.ljust(DATA_BYTES, b"\0") + bytes((report.maker, 0, _CONTINUED * report.continued))


def encode_code(identifier: str, data: bytes) -> list[bytes]:
    """The reports of one code."""
    pieces = [data[at : at + DATA_BYTES] for at in range(0, len(data), DATA_BYTES)]
    return [
        encode_report(Report(identifier, piece, continued=index < len(pieces) - 1))
        for index, piece in enumerate(pieces)
    ]


class HidScans:
    """The readings of one scanner. `feed` takes a stream of reports, because a file hands on one after the other."""

    def __init__(self) -> None:
        self._buffer = b""
        self._code: list[Report] = []
        self._broken: Refused | None = None
        """Why the code that is being read is none; its rest is waited for and dropped."""
        self._rest_may_come = self._opened = True
        """A code had no end, or began before the file was opened: what ends next may be its rest, and is dropped."""
        self._deaf = False
        """A code of several reports has just ended, or a damaged one: before a pause, nothing is a new one."""

    @property
    def wait_s(self) -> float | None:
        """Call `quiet` when nothing came for this long; None: not at all."""
        return QUIET_S if self._buffer or self._code or self._broken or self._opened or self._deaf else None

    def feed(self, data: bytes) -> list[Scan | Refused]:
        """Codes that are complete now."""
        self._opened = False
        self._buffer += data
        readings: list[Scan | Refused] = []
        while len(self._buffer) >= REPORT_BYTES:
            raw, self._buffer = self._buffer[:REPORT_BYTES], self._buffer[REPORT_BYTES:]
            readings += self._take(decode_report(raw), raw)
        return readings

    def _take(self, report: Report | Refused, raw: bytes) -> list[Scan | Refused]:
        if isinstance(report, Refused):
            self._break(Refused.CARD_DATA if raw_holds_a_card(raw) else report)
            return []
        if self._deaf:
            return []
        if not self._broken and self._code and not self._goes_on(report):
            self._break(Refused.DAMAGED)
        self._code = [*self._code[-REPORTS_MAX:], report]
        if report.continued:
            return []
        return self._end()

    def _goes_on(self, report: Report) -> bool:
        before = self._code[-1]
        same_kind = (before.identifier, before.maker) == (report.identifier, report.maker)
        # The same piece twice is the line's double, and a code of more pieces than fit is none that anybody wants.
        return same_kind and len(before.data) == DATA_BYTES and report != before and len(self._code) < REPORTS_MAX

    def _break(self, reason: Refused) -> None:
        if self._broken is not Refused.CARD_DATA:
            self._broken = reason

    def _end(self) -> list[Scan | Refused]:
        raw = b"".join(report.data for report in self._code)
        identifier = self._code[0].identifier
        self._deaf = len(self._code) > 1 or self._broken is not None
        broken, self._broken, self._code = self._broken, None, []
        if self._rest_may_come:
            self._rest_may_come, broken = False, broken or Refused.UNFINISHED
        if raw_holds_a_card(raw):
            return [Refused.CARD_DATA]
        if broken:
            return [broken]
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return [Refused.UNREADABLE]
        return [judge(text, split_identifier(identifier)[0])]

    def quiet(self) -> list[Scan | Refused]:
        """What has begun has no end: it is dropped, and the next report begins anew."""
        if self._opened:
            self._opened = self._rest_may_come = False
            return []
        deaf, self._deaf = self._deaf, False
        if deaf and not (self._buffer or self._broken):
            return []
        raw = b"".join(report.data for report in self._code) + self._buffer
        self._rest_may_come = bool(self._code) and self._code[-1].continued
        broken, self._broken, self._code, self._buffer = self._broken, None, [], b""
        if raw_holds_a_card(raw):
            return [Refused.CARD_DATA]
        return [broken or Refused.UNFINISHED]

    @property
    def pending(self) -> int:
        """Bytes of a code that is not complete."""
        return len(self._buffer) + sum(len(report.data) for report in self._code)
