"""Finds a card number wherever it may have been left: in files, rows and answers, written as machines write numbers.

What is looked for is a run of `TOLD_MIN` digits of the number: first six and last four are masked, a run of ten is not.
The forms are those in which drivers, protocols, databases and archives hold digits; what is packed is unpacked first.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from drivers.gsm_modem_codec import pack, to_septets

TOLD_MIN = 10
"""Digits in a row."""
PACKED_MIN = 12
"""The same as packed digits, of which five bytes are found in random data now and then; six are not."""
DEPTH_MAX = 5
UNPACKED_BYTES_MAX = 64 * 1024 * 1024
VALUE_CHARS_MIN = 6
_BETWEEN = b" \t\r\n\0-./_,:|'\"\\"
"""What may stand between two digits; NUL is the other half of a digit in UTF-16."""
_SPACES = (b"\xc2\xa0", b"\xe2\x80\xaf", b"\xe2\x80\x89")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")
_ZIP = b"PK\x03\x04"
_SQLITE = b"SQLite format 3\0"


class CardSearch:
    """Looks for some card numbers."""

    def __init__(self, numbers: Iterable[str]) -> None:
        self.numbers = tuple(numbers)
        self._plain = {form: name for number in self.numbers for name, form in plain_forms(number)}
        self._raw = {form: name for number in self.numbers for name, form in raw_forms(number)}

    def found(self, data: bytes | str, depth: int = 0) -> set[str]:
        """In which forms a number stands in it; empty is what a test hopes for."""
        data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        bare = data
        for space in _SPACES:
            bare = bare.replace(space, b"")
        bare = bare.translate(None, _BETWEEN)
        seen = {name for form, name in self._plain.items() if form in bare}
        seen |= {name for form, name in self._raw.items() if form in data}
        whole = data.translate(None, b"\r\n")  # base64 and hexadecimal are broken into lines
        if len(whole) < len(data):
            seen |= {name for form, name in self._raw.items() if form in whole}
        if depth < DEPTH_MAX:
            for how, inside in unpacked(data):
                seen |= {f"{how} > {name}" for name in self.found(inside, depth + 1)}
        return seen

    def found_in_folder(self, folder: Path) -> dict[str, set[str]]:
        """By file, in which forms a number stands in it; rows of databases are read one by one as well."""
        files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
        assert files, f"there is nothing to look at in {folder}"
        told: dict[str, set[str]] = {}
        for file in files:
            seen = self.found(str(file.relative_to(folder))) | self.found(file.read_bytes())
            if file.read_bytes()[:16] == _SQLITE:
                seen |= {f"{table}: {name}" for table, value in rows(file) for name in self.found(value)}
            if seen:
                told[str(file.relative_to(folder))] = seen
        return told


def runs(number: str, size: int) -> Iterator[str]:
    """Every run of so many digits."""
    yield from (number[at : at + size] for at in range(len(number) - size + 1))


def plain_forms(number: str) -> Iterator[tuple[str, bytes]]:
    """As text, once everything that may stand between digits is gone: digits, and digits as numbers of characters."""
    for run in runs(number, TOLD_MIN):
        digits = run.encode("ascii")
        yield "digits", digits
        yield "hexadecimal of digits", digits.hex().encode("ascii")
        yield "percent-encoded", "".join(f"%{byte:02x}" for byte in digits).encode("ascii")


def raw_forms(number: str) -> Iterator[tuple[str, bytes]]:
    """As bytes: packed digits at both alignments, whole numbers, base64 and septets of a short message."""
    for run in runs(number, PACKED_MIN):
        packed = bytes.fromhex(run)
        yield "packed digits", packed
        yield from (("base64 of packed digits", form) for form in base64_forms(packed))
    for run in runs(number, TOLD_MIN):
        yield from (("base64", form) for form in base64_forms(run.encode("ascii")))
        for fill in range(7) if run in tuple(runs(number, TOLD_MIN))[::3] else ():
            septets = to_septets(run)
            assert septets is not None
            yield from _inside("septets", pack(septets, fill))
    value = int(number)
    size = (value.bit_length() + 7) // 8
    yield "whole number", value.to_bytes(size, "big")
    yield "whole number, little end first", value.to_bytes(size, "little")


def _inside(name: str, packed: bytes) -> Iterator[tuple[str, bytes]]:
    """Bytes whose first and last are shared with their neighbours: what is between, raw and in hexadecimal."""
    middle = packed[1:-1]
    yield name, middle
    yield f"hexadecimal of {name}", middle.hex().upper().encode("ascii")
    yield f"hexadecimal of {name}", middle.hex().encode("ascii")


def base64_forms(data: bytes) -> Iterator[bytes]:
    """What of base64 is the same whatever stands around it, at all three alignments; nine characters or more."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data)
        first, last = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        yield whole[first:last]


def unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What is packed in it: members of archives, deflated streams wherever they begin, and what base64 spells."""
    if _ZIP in data:
        try:
            with zipfile.ZipFile(io.BytesIO(data[data.index(_ZIP) :])) as archive:
                yield from ((f"zip {name}", archive.read(name)) for name in archive.namelist())
        except zipfile.BadZipFile:
            pass  # four bytes that look like one
    for begin in _ZLIB.finditer(data):
        inside = inflated(data[begin.start() :])
        if inside:
            yield "deflated", inside
            yield from tar_members(inside)
    for spelled in _BASE64.finditer(data):
        decoded = from_base64(spelled[0])
        if decoded:
            yield "base64", decoded


def inflated(data: bytes) -> bytes:
    """The stream that begins here, as far as it goes; empty where none does."""
    unpacker = zlib.decompressobj(31 if data[:1] == b"\x1f" else 15)
    try:
        return unpacker.decompress(data, UNPACKED_BYTES_MAX)
    except zlib.error:
        return b""


def tar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files of a tar archive; nothing where it is none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member)
                yield f"tar {member.name}", file.read() if file else b""
    except tarfile.TarError:
        return


def from_base64(text: bytes) -> bytes:
    """What it spells; empty where it is no base64, or only letters that mean nothing."""
    text = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return b""


def rows(file: Path) -> Iterator[tuple[str, bytes]]:
    """Every value of every row, whole: in the file a long one is cut where its page ends."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=0", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - a name out of the file's own list
                for value in row:  # smaller than any form of a number: flags, counts, dates
                    if value is None or len(str(value)) < VALUE_CHARS_MIN:
                        continue
                    yield table, value if isinstance(value, bytes) else str(value).encode()


def json_texts(value: object) -> Iterator[str]:
    """Keys and values of JSON as they are read, whatever its escapes are."""
    match value:
        case dict():
            for key, inside in value.items():
                yield str(key)
                yield from json_texts(inside)
        case list():
            for inside in value:
                yield from json_texts(inside)
        case None | bool():
            return
        case _:
            yield str(value)


def text_of_json(data: bytes) -> str:
    """All texts of a JSON document, or of JSON lines, one a line."""
    try:
        documents = [json.loads(data)]
    except ValueError:
        documents = [json.loads(line) for line in data.splitlines() if line.strip().startswith(b"{")]
    return "\n".join(json_texts(documents))
