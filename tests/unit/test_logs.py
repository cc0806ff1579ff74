"""Structured logs: allowed fields only, card data never, JSON lines or journald's own datagrams."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubd.config_sections import LogLevel
from hubd.logs import (
    FIELDS,
    REMOVED,
    VALUE_BYTES_MAX,
    JournalHandler,
    JsonLinesHandler,
    StateChanges,
    journal_datagram,
    log_context,
    redacted,
    set_up_logging,
    stderr_is_the_journal,
)
from tests.tidy.tree import PACKAGES, python_files, tree

CARD = "4111111111111111"
SHAPES = (
    CARD,
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "x4111111111111111x",
    "pan=5500005555555559;",
    "378282246310005",
    ";4111111111111111=25121010000012345678?",
    "%B4111111111111111^DOE/JANE^2512101000000000?",
    "４１１１１１１１１１１１１１１１",
    "4111\n1111\n1111\n1111",
)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What our logger writes as JSON lines."""
    stream = io.StringIO()
    handler = JsonLinesHandler(stream)
    logger = logging.getLogger("hubd.lines_test")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logger.propagate = True


LOG = logging.getLogger("hubd.lines_test")


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    value: dict[str, Any] = json.loads(line)
    return value


def test_a_line_holds_the_event_its_time_and_its_fields(lines: io.StringIO) -> None:
    LOG.info("device.gone", extra={"device_id": "d1", "down_s": 12})
    line = only(lines)
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "info", "logger": "hubd.lines_test", "message": "device.gone", "device_id": "d1", "down_s": 12,
    }  # fmt: skip


def test_what_is_not_an_allowed_field_is_not_written(lines: io.StringIO) -> None:
    LOG.info("x", extra={"customer_name": "Jane Doe", "token": "s3cret", "device_id": "d1"})
    assert "Jane" not in lines.getvalue()
    assert "s3cret" not in lines.getvalue()
    assert only(lines)["device_id"] == "d1"


def test_context_is_added_and_the_records_own_field_wins(lines: io.StringIO) -> None:
    with log_context(payment_id="p1", device_id="outer"), log_context(device_id="inner"):
        LOG.info("a", extra={"payment_id": "p2"})
    line = only(lines)
    assert (line["payment_id"], line["device_id"]) == ("p2", "inner")
    LOG.info("b")
    assert "payment_id" not in lines.getvalue().splitlines()[1]
    with pytest.raises(ValueError, match="not a field of the logs: pin"), log_context(pin="1234"):
        pass


@pytest.mark.parametrize("shape", SHAPES)
def test_no_card_data_gets_out_by_any_field(lines: io.StringIO, shape: str) -> None:
    names = sorted(FIELDS - {"name"})
    LOG.info("x", extra=dict.fromkeys(names, f"see {shape} there"))
    line = only(lines)
    for name in names:
        assert REMOVED in line[name], name
        assert not any(part in line[name] for part in ("41111", "55000", "37828", "1111 1", "1111\n1", "DOE")), name


@pytest.mark.parametrize("shape", SHAPES)
def test_no_card_data_gets_out_by_message_or_traceback(lines: io.StringIO, shape: str) -> None:
    LOG.error("refused %s", shape, exc_info=ValueError(shape))
    line = only(lines)
    assert REMOVED in line["message"]
    assert REMOVED in line["traceback"]
    assert shape not in json.dumps(line, ensure_ascii=False).replace("\\n", "\n")


def test_a_number_that_is_a_card_is_removed_too(lines: io.StringIO) -> None:
    LOG.info("x", extra={"seq": int(CARD), "count": 4111})
    line = only(lines)
    assert (line["seq"], line["count"]) == (REMOVED, 4111)


@pytest.mark.parametrize(
    "text",
    [
        "01941111-1111-7111-8111-111111111111",
        "5901234123457",
        "1767225600000000",
        "a" * 64,
        "2026-11-21T21:25:01.123456+00:00",
        "+33612345678",
        "10.0.0.1:20007",
    ],
)
def test_ids_codes_times_and_addresses_stay_readable(text: str) -> None:
    assert redacted(text) == text


def test_only_the_line_with_card_data_is_lost() -> None:
    assert redacted(f"one\ntwo {CARD}\nthree") == f"one\n{REMOVED}\nthree"


def test_a_long_text_is_cut() -> None:
    assert len(redacted("x" * 10 * VALUE_BYTES_MAX)) < VALUE_BYTES_MAX + 20


def test_bytes_are_written_in_hex_and_unknown_objects_as_their_words(lines: io.StringIO) -> None:
    LOG.info("x", extra={"line": b"\x01\xff", "state": Path("ready"), "result": True, "error": None})
    line = only(lines)
    assert (line["line"], line["state"], line["result"], line["error"]) == ("01ff", "ready", True, None)


# -- journald ----------------------------------------------------------------------------------------------------------


def read_datagram(raw: bytes) -> dict[str, str]:
    """The native protocol read back by its own description."""
    found, at = {}, 0
    while at < len(raw):
        end = raw.index(b"\n", at)
        key, equals, value = raw[at:end].partition(b"=")
        if equals:
            found[key.decode()], at = value.decode(), end + 1
            continue
        (size,) = struct.unpack("<Q", raw[end + 1 : end + 9])
        found[key.decode()] = raw[end + 9 : end + 9 + size].decode()
        assert raw[end + 9 + size : end + 10 + size] == b"\n"
        at = end + 10 + size
    return found


def test_datagrams_read_back_as_they_were() -> None:
    values = {"MESSAGE": "two\nlines", "HUBD_CODE": "a=b", "EMPTY": "", "ODD": "é\n"}
    assert read_datagram(journal_datagram(values)) == values


def test_no_value_can_smuggle_a_field() -> None:
    assert read_datagram(journal_datagram({"HUBD_CODE": "x\nPRIORITY=0\n_PID=1"})) == {
        "HUBD_CODE": "x\nPRIORITY=0\n_PID=1"
    }


def record(message: str, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("hubd", logging.WARNING, __file__, 1, message, (), None)
    made.__dict__.update(fields)
    return made


def test_without_journald_the_line_goes_to_standard_error(tmp_path: Path) -> None:
    stream = io.StringIO()
    handler = JournalHandler(tmp_path / "absent", JsonLinesHandler(stream))
    handler.handle(record("kept", device_id="d1"))
    handler.close()
    assert only(stream)["device_id"] == "d1"


def test_a_full_journal_does_not_hold_the_hub_up(tmp_path: Path) -> None:
    stream = io.StringIO()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "socket"))
        handler = JournalHandler(tmp_path / "socket", JsonLinesHandler(stream))
        for number in range(10_000):
            handler.handle(record("x", count=number, code="y" * 1000))
            if stream.getvalue():
                break
        handler.close()
    assert only(stream)["count"] > 0


# -- set-up ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.mark.usefixtures("_logging_as_before")
def test_ours_speak_at_the_level_and_libraries_from_warnings_on() -> None:
    stream = io.StringIO()
    set_up_logging(LogLevel.DEBUG, {}, stream)
    logging.getLogger("hubd.x").debug("ours")
    logging.getLogger("aiosqlite").info("theirs")
    logging.getLogger("uvicorn").warning("loud")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["ours", "loud"]


@pytest.mark.usefixtures("_logging_as_before")
def test_journald_is_used_only_if_standard_error_leads_there(tmp_path: Path) -> None:
    (tmp_path / "socket").touch()
    with tempfile.TemporaryFile("w") as stream:
        status = os.fstat(stream.fileno())
        mine = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert stderr_is_the_journal(mine, stream)
        assert not stderr_is_the_journal({"JOURNAL_STREAM": "1:2"}, stream)
        assert not stderr_is_the_journal({}, stream)
        handler = set_up_logging(LogLevel.INFO, mine, stream, tmp_path / "socket")
        assert isinstance(handler, JournalHandler)
        handler.close()
        assert isinstance(set_up_logging(LogLevel.INFO, mine, stream, tmp_path / "absent"), JsonLinesHandler)
        assert isinstance(set_up_logging(LogLevel.INFO, {}, stream, tmp_path / "socket"), JsonLinesHandler)
    assert not stderr_is_the_journal(mine, io.StringIO())


def test_a_state_is_news_once() -> None:
    changes = StateChanges()
    heard = [changes.is_news("d1", state) for state in ("gone", "gone", "ready", "ready", "gone")]
    assert heard == [True, False, True, False, True]
    assert changes.is_news("d2", "gone")
    changes.forget("d1")
    assert changes.is_news("d1", "gone")


# -- the house ---------------------------------------------------------------------------------------------------------


def extra_fields(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each field that a log call gives in a literal `extra`."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
                yield from (
                    (key.lineno, key.value)
                    for key in keyword.value.keys
                    if isinstance(key, ast.Constant) and isinstance(key.value, str)
                )


def test_every_field_of_our_log_calls_is_allowed() -> None:
    """A field that is not in `hubd.logs.FIELDS` is dropped in silence: add it there, or give it a name that is."""
    found = [
        f"{path}:{line}: {field}"
        for path in python_files(*PACKAGES)
        for line, field in extra_fields(tree(path))
        if field not in FIELDS
    ]
    assert found == []


def test_the_rule_finds_a_field() -> None:
    assert list(extra_fields(ast.parse("log.info('x', extra={'customer': 1})"))) == [(1, "customer")]


def test_standard_error_is_the_default_stream() -> None:
    assert JsonLinesHandler().stream is sys.stderr
