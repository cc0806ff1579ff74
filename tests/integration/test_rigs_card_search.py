"""The search for card numbers itself: each form is planted and found, and what is masked is not called a number."""

from __future__ import annotations

import base64
import gzip
import io
import json
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from drivers.gsm_modem_codec import encode_deliver, write_pdu
from tests.rigs.card_search import CardSearch, text_of_json

pytestmark = pytest.mark.blocking_allowed("it reads and writes files; no loop is involved")
NUMBERS = ("5204739684211358", "6805330010086784747", "378282246310005")
SEARCH = CardSearch(NUMBERS)
NOISE = bytes(range(256)) * 3


def zipped(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.txt", data)
    return packed.getvalue()


def tarred(data: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("report/log.txt")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def in_fours(number: str, between: str) -> bytes:
    return between.join(number[at : at + 4] for at in range(0, len(number), 4)).encode()


def packed_digits(number: str, before: str = "") -> bytes:
    digits = before + number
    return bytes.fromhex(digits + "F" * (len(digits) % 2))


FORMS: dict[str, Callable[[str], bytes]] = {
    "ascii": str.encode,
    "all but the last four": lambda number: number[:-4].encode(),
    "ten digits": lambda number: number[3:13].encode(),
    "spaces": lambda number: in_fours(number, " "),
    "dashes": lambda number: in_fours(number, "-"),
    "lines": lambda number: in_fours(number, "\r\n"),
    "no-break spaces": lambda number: in_fours(number, "\u00a0"),
    "track 1": lambda number: f"%B{number}^DOE/JANE^2912101?".encode(),
    "track 2": lambda number: f";{number}=29121010000?".encode(),
    "packed": packed_digits,
    "packed after a nibble": lambda number: packed_digits(number, "2"),
    "packed track": lambda number: bytes.fromhex(f"{number}D2912101{'F' * (len(number) % 2)}"),
    "utf-16, little end first": lambda number: number.encode("utf-16-le"),
    "utf-16, big end first": lambda number: number.encode("utf-16-be"),
    "hexadecimal": lambda number: number.encode().hex().encode(),
    "hexadecimal in pairs": lambda number: number.encode().hex(" ").encode(),
    "packed in hexadecimal": lambda number: packed_digits(number).hex(" ").encode(),
    "percent": lambda number: "".join(f"%{byte:02x}" for byte in number.encode()).encode(),
    "whole number": lambda number: int(number).to_bytes(8, "big"),
    "whole number, little end first": lambda number: int(number).to_bytes(8, "little"),
    "short message": lambda number: encode_deliver("+33612345678", f"kaart {number}", "261201142530+4", 1)[0],
    "short message in hexadecimal": lambda number: write_pdu(
        encode_deliver("+33612345678", f"a {number}", "261201142530+4", 1)[0]
    ).encode(),
    "base64": lambda number: base64.b64encode(number.encode()),
    "base64 one later": lambda number: base64.b64encode(b"x" + number.encode()),
    "base64 two later": lambda number: base64.b64encode(b"xx" + number.encode()),
    "base64 in lines": lambda number: base64.encodebytes(b"x" * 50 + number.encode()),
    "base64 for addresses": lambda number: base64.urlsafe_b64encode(b"\xff\xfe" + number.encode()),
    "base64 of packed": lambda number: base64.b64encode(b"x" + packed_digits(number)),
    "base64 of deflated": lambda number: base64.b64encode(zlib.compress(b"kaart " + number.encode())),
    "deflated": lambda number: zlib.compress(b"kaart " + number.encode()),
    "gzip": lambda number: gzip.compress(b"kaart " + number.encode()),
    "zip": lambda number: zipped(number.encode()),
    "tar": lambda number: tarred(b"kaart " + number.encode()),
    "zip in tar": lambda number: tarred(zipped(number.encode())),
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_in_the_middle_of_other_bytes(form: str, number: str) -> None:
    planted = FORMS[form](number)
    assert SEARCH.found(planted)
    if form not in ("zip", "base64"):  # an archive begins a file, and letters before base64 would be part of it
        assert SEARCH.found(NOISE + planted + NOISE), "what stands around it hides it"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_in_a_file_and_in_a_row(tmp_path: Path, form: str) -> None:
    planted = FORMS[form](NUMBERS[0])
    (tmp_path / "log").mkdir()
    (tmp_path / "log/hubd.log").write_bytes(planted)
    with closing(sqlite3.connect(tmp_path / "hub.db")) as connection:
        connection.execute("CREATE TABLE documents (id INTEGER, content BLOB)")
        connection.execute("INSERT INTO documents VALUES (1, ?)", (b"\n" * 6000 + planted,))
        connection.commit()
    told = SEARCH.found_in_folder(tmp_path)
    assert set(told) == {"log/hubd.log", "hub.db"}
    assert any(name.startswith("documents: ") for name in told["hub.db"])


def test_a_number_across_two_pages_and_one_in_the_log_of_a_database_are_found(tmp_path: Path) -> None:
    for offset in range(3900, 4100, 7):
        file = tmp_path / f"{offset}.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("CREATE TABLE notes (body TEXT)")
            connection.execute("INSERT INTO notes VALUES (?)", ("x" * offset + NUMBERS[1],))
            connection.commit()
        assert any(name.startswith("notes: ") for name in SEARCH.found_in_folder(tmp_path)[file.name])
        file.unlink()
    with closing(sqlite3.connect(tmp_path / "hub.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE notes (body TEXT)")
        connection.execute("INSERT INTO notes VALUES (?)", (NUMBERS[2],))
        connection.commit()
        assert "hub.db-wal" in SEARCH.found_in_folder(tmp_path)


def test_a_name_of_a_file_and_a_text_with_escapes_are_read(tmp_path: Path) -> None:
    (tmp_path / f"{NUMBERS[0]}.txt").write_text("nothing", "ascii")
    assert SEARCH.found_in_folder(tmp_path)
    escaped = json.dumps({"a": [{"text": NUMBERS[0]}]}).replace("4", "\\u0034").encode()
    assert not SEARCH.found(escaped)
    assert SEARCH.found(text_of_json(escaped))
    assert SEARCH.found(text_of_json(b'{"ok": true}\n{"n": %s}\n' % NUMBERS[2].encode()))


def test_masked_numbers_and_others_are_not_called_one() -> None:
    for number in NUMBERS:
        for masked in (number[-4:], f"**** {number[-4:]}", f"{number[:6]}******{number[-4:]}", "4006381333931"):
            assert SEARCH.found(masked) == set(), masked
    assert SEARCH.found(b"\x00" * 4096 + NOISE * 40 + b"1234567890123456") == set()
