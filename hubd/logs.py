"""Structured logs: to journald with fields of their own, as JSON lines elsewhere, and never with card data.

First net: of `extra` only the fields of `FIELDS` are written. Second net: a line in which a card number or a track is
found is replaced whole. Log calls have constant messages (`device.gone`) and put what varies into fields.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from hubd.config_sections import LogLevel
from hubd.model.card_data import holds_card_data

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "hubd"
VALUE_BYTES_MAX = 32 * 1024
"""A longer text is cut and says so; a datagram to journald stays below the kernel's limit."""
_OF_NUMBERS = "0123456789 \t\r\n\u00a0.,-_/:|"
REMOVED = "[card data removed]"
OUR_LOGGERS = ("hubd", "drivers", "sync", "local_api")

FIELDS = frozenset(
    {
        # what it is about
        "payment_id", "order_id", "refund_id", "device_id", "till_id", "terminal_id", "outage_id", "statement_id",
        "hub_id", "location_id", "staff_id", "pairing_id", "driver", "endpoint", "worker", "problem", "line", "seq",
        "kind", "topic", "key_id", "epoch",
        # what happened
        "code", "reason", "state", "before", "mode", "role", "method", "route", "status", "error", "action", "field",
        "schema", "version", "hop", "detail", "path", "name", "address", "port", "signal", "interface", "result",
        # how much, how long
        "count", "works", "attempt", "restarts", "bytes", "amount_minor", "currency", "down_s", "lasted_s",
        "duration_ms", "delay_s", "lag_ms", "upto_seq", "from_seq", "confirmed_seq", "applied_seq", "retry_after_s",
        "free_bytes", "dropped_count", "ok", "age_s", "setting", "given", "used",
    }
)  # fmt: skip
"""Names of `extra` that are written; a test holds every log call to them."""

_context: ContextVar[Mapping[str, str | int]] = ContextVar("hubd_log_context", default=MappingProxyType({}))


@contextlib.contextmanager
def log_context(**values: str | int) -> Iterator[None]:
    """Add these fields to everything that is logged inside, tasks started there included."""
    unknown = set(values) - FIELDS
    if unknown:
        raise ValueError(f"not a field of the logs: {', '.join(sorted(unknown))}")
    token = _context.set(MappingProxyType({**_context.get(), **values}))
    try:
        yield
    finally:
        _context.reset(token)


class StateChanges:
    """Says whether a state is news, so that a device that stays away is logged once and not every five seconds."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def is_news(self, subject: str, state: str) -> bool:
        """True the first time and whenever the state of `subject` is another than at the last call."""
        if self._last.get(subject) == state:
            return False
        self._last[subject] = state
        return True

    def forget(self, subject: str) -> None:
        """The subject is gone for good; its next state is news."""
        self._last.pop(subject, None)


def redacted(text: str) -> str:
    """The text with every line that holds card data replaced, and cut at the limit."""
    if len(text) > VALUE_BYTES_MAX:
        # What the cut leaves of a number would not be known for one.
        text = text[:VALUE_BYTES_MAX].rstrip(_OF_NUMBERS) + "… (cut)"
    if not _holds_card_data(text):
        return text
    # A number may also be written over the end of a line; then no line alone shows it, and the whole text goes.
    lines = "\n".join(REMOVED if holds_card_data(line) else line for line in text.split("\n"))
    return REMOVED if _holds_card_data(lines) else lines


def _holds_card_data(text: str) -> bool:
    return holds_card_data(text) or ("\n" in text and holds_card_data(text.replace("\n", " ")))


def fields_of(record: logging.LogRecord) -> dict[str, str | float | bool | None]:
    """The allowed fields of context and record, redacted; the record's own win."""
    found: dict[str, str | float | bool | None] = {}
    given = {**_context.get(), **{name: value for name, value in record.__dict__.items() if name in FIELDS}}
    # `name` belongs to the logging library on every record; as a field of ours it would be the logger's name.
    given.pop("name", None)
    for name, value in sorted(given.items()):
        found[name] = _plain(value)
    return found


def _plain(value: Any) -> str | float | bool | None:  # a log call may hand over anything
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return REMOVED if holds_card_data(str(value)) else value
    return redacted(value.hex() if isinstance(value, bytes) else str(value))


def message_of(record: logging.LogRecord) -> str:
    """The message, redacted."""
    return redacted(record.getMessage())


def traceback_of(record: logging.LogRecord) -> str:
    """The traceback as text, redacted; empty if there is none."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return redacted("".join(traceback.format_exception(*record.exc_info)).rstrip())


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, message, the fields, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        entry: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message_of(record),
            **fields_of(record),
        }
        trace = traceback_of(record)
        if trace:
            entry["traceback"] = trace
        return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))


class JsonLinesHandler(logging.StreamHandler[IO[str]]):
    """JSON lines to a stream, normally standard error."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        super().__init__(stream or sys.stderr)
        self.setFormatter(JsonLines())


_PRIORITY = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def priority_of(level: int) -> int:
    """The syslog priority of a level."""
    return next((priority for at_least, priority in _PRIORITY if level >= at_least), 7)


def journal_datagram(values: Mapping[str, str]) -> bytes:
    """The native protocol: `KEY=value` and a newline; a value of several lines with its length before it."""
    parts = []
    for key, value in values.items():
        raw = value.encode("utf-8", "backslashreplace")
        if b"\n" in raw:
            parts.append(key.encode("ascii") + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n")
        else:
            parts.append(key.encode("ascii") + b"=" + raw + b"\n")
    return b"".join(parts)


class JournalHandler(logging.Handler):
    """Writes to journald with fields (`HUBD_PAYMENT_ID=…`); where journald does not take it, to `fallback`.

    A full or absent socket never makes the hub wait: the line goes to the fallback instead, and none is lost.
    """

    def __init__(self, path: Path = JOURNAL_SOCKET, fallback: logging.Handler | None = None) -> None:
        super().__init__()
        self._path = str(path)
        self._fallback = fallback or JsonLinesHandler()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def emit(self, record: logging.LogRecord) -> None:
        """One datagram a record."""
        try:
            self._socket.sendto(journal_datagram(self.values(record)), self._path)
        except OSError:
            self._fallback.emit(record)
        except (TypeError, ValueError):
            self.handleError(record)  # a broken log call is reported, as the logging library does it, and ends nothing

    def values(self, record: logging.LogRecord) -> dict[str, str]:
        """The journal's fields of one record. MESSAGE holds our fields too, because people read only that."""
        fields = {name: str(value) for name, value in fields_of(record).items() if value is not None}
        words = [message_of(record), *(f"{name}={value}" for name, value in fields.items())]
        trace = traceback_of(record)
        values = {
            "MESSAGE": " ".join(words) + (f"\n{trace}" if trace else ""),
            "PRIORITY": str(priority_of(record.levelno)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "HUBD_LOGGER": record.name,
            "HUBD_EVENT": message_of(record),
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
        }
        return values | {f"HUBD_{name.upper()}": value for name, value in fields.items()}

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()
        super().close()


def stderr_is_the_journal(environ: Mapping[str, str], stream: IO[str]) -> bool:
    """Whether standard error is connected to journald (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def set_up_logging(
    level: LogLevel,
    environ: Mapping[str, str] | None = None,
    stream: IO[str] | None = None,
    journal_socket: Path = JOURNAL_SOCKET,
) -> logging.Handler:
    """Give the root logger its one handler; ours speak at `level`, libraries from warnings on. Returns the handler.

    Libraries stay at warnings because at `debug` some of them print what they carry.
    """
    environ = os.environ if environ is None else environ
    stream = stream or sys.stderr
    in_journal = stderr_is_the_journal(environ, stream) and journal_socket.exists()
    lines = JsonLinesHandler(stream)
    handler = JournalHandler(journal_socket, lines) if in_journal else lines
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(level.upper())
    logging.captureWarnings(capture=True)
    return handler
