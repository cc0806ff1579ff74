"""`hubctl logs`: the hub's logs by payment, device, problem, time and level. Works with the hub down."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from hubd.cli.common import target_of
from hubd.cli.output import print_line
from hubd.config import Config
from hubd.errors import HubError
from hubd.logs import FIELDS, IDENTIFIER, redacted

LEVELS = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
LOG_FILE = "hubd.log"
"""Beside the data, where a hub without journald (the demo) writes its JSON lines."""
LINES_MAX = 100_000
ENDS_S_MAX = 5.0
"""journalctl has closed its output; it gets so long to end by itself."""
_AGO = re.compile(r"(\d{1,6}) (second|minute|hour|day|week)s? ago")


class Filter:
    """What a record must be to be shown. `since` is for files; journald reads it itself."""

    def __init__(self, fields: dict[str, str], level: str) -> None:
        self.fields = fields
        self.priority = LEVELS[level]
        self.since: datetime | None = None

    def matches(self, record: dict[str, Any]) -> bool:
        """Whether the record is wanted."""
        wanted = all(str(record.get(name)) == value for name, value in self.fields.items())
        return wanted and LEVELS.get(str(record.get("level")), 7) <= self.priority and self._is_late_enough(record)

    def _is_late_enough(self, record: dict[str, Any]) -> bool:
        if self.since is None:
            return True
        try:
            return datetime.fromisoformat(str(record.get("at"))) >= self.since
        except (TypeError, ValueError):
            return True  # better a line too many than the one that is looked for left out


def moment_of(text: str, now: datetime) -> datetime:
    """A moment as journald takes it: `1 hour ago`, `today`, `yesterday`, or a date with or without its time.

    Raises `typer.BadParameter` for anything else.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text in {"today", "yesterday"}:
        return midnight - timedelta(days=text == "yesterday")
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - timedelta(**{f"{ago[2]}s": int(ago[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise typer.BadParameter("such as '1 hour ago', today or 2026-11-21 10:00", param_hint="--since") from None


def logs(
    context: typer.Context,
    payment: Annotated[str, typer.Option(help="Only about this payment.")] = "",
    device: Annotated[str, typer.Option(help="Only about this device.")] = "",
    problem: Annotated[str, typer.Option(help="Only about this problem code.")] = "",
    since: Annotated[str, typer.Option(help="From this moment on, such as '1 hour ago' or 2026-11-21 10:00.")] = "",
    level: Annotated[str, typer.Option(help="At least this: debug, info, warning, error, critical.")] = "debug",
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=LINES_MAX, help="How many, the newest.")] = 200,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is logged from now.")] = False,
    file: Annotated[Path | None, typer.Option(help="Read JSON lines from this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the hub's logs, from journald or from a file of JSON lines."""
    from hubd.runtime import SystemClock

    if level not in LEVELS:
        raise typer.BadParameter(f"choose one of {', '.join(LEVELS)}", param_hint="--level")
    names = {"payment_id": payment, "device_id": device, "problem": problem}
    wanted = Filter({name: value for name, value in names.items() if value}, level)
    source = file or log_file(target_of(context).config())
    if source and since:
        wanted.since = moment_of(since, datetime.fromtimestamp(SystemClock().now_us() / 1_000_000, UTC).astimezone())
    records = file_records(source, wanted, lines) if source else journal_records(wanted, since, lines, follow=False)
    count = 0
    for record in records:
        count += 1
        show(record, as_json=as_json)
    if follow:
        for record in _followed(source, wanted):
            show(record, as_json=as_json)
    elif not count and not as_json:
        print_line("Nothing was logged that fits.")


def log_file(config: Config) -> Path | None:
    """The file of a hub that does not log to journald; None where journald has its logs."""
    path = config.paths.data / LOG_FILE
    try:
        return path if path.exists() else None
    except PermissionError:
        return None


def file_records(path: Path, wanted: Filter, lines: int) -> list[dict[str, Any]]:
    """The newest records of a file that are wanted, oldest first."""
    found: list[dict[str, Any]] = []
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                record = _parsed(line)
                if record and wanted.matches(record):
                    found.append(record)
                    del found[:-lines]
    except OSError as exc:
        raise HubError("logs.unreadable", f"{path} cannot be read: {exc.strerror}.") from exc
    return found


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def journal_command(wanted: Filter, since: str, lines: int, *, follow: bool) -> list[str]:
    """The command that reads journald."""
    command = ["journalctl", "--quiet", "--no-pager", "--all", "-o", "json", f"SYSLOG_IDENTIFIER={IDENTIFIER}"]
    command += [f"HUBD_{name.upper()}={value}" for name, value in wanted.fields.items()]
    command += ["-p", str(wanted.priority), "-n", "0" if follow else str(lines)]
    command += ["--since", since] if since else []
    return [*command, "--follow"] if follow else command


def journal_records(wanted: Filter, since: str, lines: int, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Records from journald. Raises `logs.no_journal` where there is none, `logs.unreadable` if it gives none."""
    if shutil.which("journalctl") is None:
        raise HubError(
            "logs.no_journal",
            "There is no journald here, and no log file beside the hub's data.",
            remedy="Name the file that the hub's standard error goes to: `hubctl logs --file FILE`.",
        )
    command = journal_command(wanted, since, lines, follow=follow)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "asked for above"
        try:
            for line in process.stdout:
                record = _parsed(line)
                if record is not None:
                    yield from_journal(record)
            said = process.stderr.read().strip() if process.stderr else ""
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ENDS_S_MAX)  # terminated a moment too early, it would not tell that it failed
        finally:
            if process.poll() is None:
                process.terminate()
    if process.returncode > 0:
        raise HubError("logs.unreadable", f"journalctl: {said or process.returncode}", remedy="Run `sudo hubctl logs`.")


def from_journal(record: dict[str, Any]) -> dict[str, Any]:
    """A journald record in the shape of our JSON lines."""
    found: dict[str, Any] = {}
    at = record.get("__REALTIME_TIMESTAMP")
    if isinstance(at, str) and at.isdigit():
        found["at"] = datetime.fromtimestamp(int(at) / 1_000_000, UTC).isoformat(timespec="milliseconds")
    priority = int(record.get("PRIORITY", 6))
    found["level"] = next((name for name, number in LEVELS.items() if priority <= number), "debug")
    found["logger"] = record.get("HUBD_LOGGER", record.get("_COMM", ""))
    found["message"] = record.get("HUBD_EVENT") or record.get("MESSAGE", "")
    for name in sorted(FIELDS):
        if f"HUBD_{name.upper()}" in record:
            found[name] = record[f"HUBD_{name.upper()}"]
    if record.get("HUBD_EVENT") and "\n" in str(record.get("MESSAGE", "")):
        found["traceback"] = str(record["MESSAGE"]).partition("\n")[2]
    return found


def _followed(source: Path | None, wanted: Filter) -> Iterator[dict[str, Any]]:
    if source is None:
        yield from journal_records(wanted, "", 0, follow=True)
        return
    command = ["tail", "-n", "0", "-F", "--", str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        stdout: IO[str] | None = process.stdout
        assert stdout is not None, "asked for above"
        try:
            for line in stdout:
                record = _parsed(line)
                if record and wanted.matches(record):
                    yield record
        finally:
            process.terminate()


def show(record: dict[str, Any], *, as_json: bool) -> None:
    """One record: a JSON line, or the time, the level, the event and its fields."""
    if as_json:
        print_line(json.dumps(record, ensure_ascii=False))
        return
    rest = {name: value for name, value in record.items() if name in FIELDS}
    words = " ".join(f"{name}={value}" for name, value in rest.items())
    at = str(record.get("at", ""))[:23].replace("T", " ")
    print_line(redacted(f"{at}  {str(record.get('level', '')).upper():8} {record.get('message')}  {words}".rstrip()))
    if record.get("traceback"):
        print_line(redacted(str(record["traceback"])))
