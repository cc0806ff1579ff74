"""`hubctl bugreport`: one archive for whoever helps, without card data, tokens, PINs or names. Works with the hub down.

What goes in is chosen, not filtered out: numbers, codes, ids, the schema, logs of allowed fields. Then every file is
searched once more for what must not be in it.
"""

from __future__ import annotations

import io
import json
import platform
import re
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from hubd import __version__
from hubd.cli import checks
from hubd.cli.client import Client, HubUnreachableError, RefusedError, service_state
from hubd.cli.common import JsonFlag, dead_store, items_of, target_of
from hubd.cli.device_trials import line_text, lines_of
from hubd.cli.logs import Filter, file_records, journal_records, log_file
from hubd.cli.output import print_json, print_line
from hubd.cli.status import summary_json
from hubd.config import Config, shown_values
from hubd.errors import HubError
from hubd.logs import FIELDS, redacted

LOG_LINES = 5_000
TRACE_LINES = 200
"""Of each device."""
ENTRIES = 500
NAME_CHARS_MIN = 3
NAME_CHARS_MAX = 120
REMOVED = "[removed]"
KEPT_FIELDS = FIELDS | {"at", "level", "logger", "message", "traceback"}
_TOKEN = re.compile(
    r"(?<![\w-])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])(?=[\w-]*\d)[A-Za-z0-9_-]{40,}(?![\w-])|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
    re.DOTALL,
)
PACKAGES = ("aiomqtt", "aiosqlite", "cryptography", "fastapi", "msgspec", "pyserial", "uvicorn", "zeroconf")


@dataclass(slots=True)
class Scrubber:
    """Takes out of a text what must not leave the shop."""

    personal: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Scrubber:
        """Knows these texts, their lines, and the single words of those that are as short as a name."""
        found: set[str] = set()
        for text in texts:
            found |= {line.strip() for line in text.splitlines()}
            if len(text) <= NAME_CHARS_MAX:
                found |= set(re.findall(r"[^\W\d_]{3,}", text))
        return cls(sorted((text for text in found if len(text) >= NAME_CHARS_MIN), key=len, reverse=True))

    def scrub(self, text: str) -> str:
        """The text without card data, tokens, keys and what it knows of people."""
        text = _TOKEN.sub(REMOVED, redacted_lines(text))
        for known in self.personal:
            if known in text or known.casefold() in text.casefold():
                text = re.sub(rf"(?<!\w){re.escape(known)}(?!\w)", REMOVED, text, flags=re.IGNORECASE)
        return text


def redacted_lines(text: str) -> str:
    """Card data taken out line by line, without a limit of length."""
    return "\n".join(redacted(line) for line in text.split("\n"))


def bugreport(
    context: typer.Context,
    to: Annotated[
        Path | None, typer.Option(help="Directory for the archive; default: here, else the temporary one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write one archive with what a helper needs: status, configuration, versions, logs, schema, counts."""
    target = target_of(context)
    config = target.config()
    scrubber, from_store = store_files(config)
    files = {
        "status.json": pretty(_status(config)),
        "config.json": pretty([{"key": v.key, "value": v.value, "origin": v.origin} for v in shown_values(config)]),
        "versions.json": pretty(versions()),
        "doctor.json": pretty(checks.findings_json(checks.all_findings(config, hub_is_up=target.client().is_up()))),
        "logs.jsonl": recent_logs(config),
        **traces(target.client()),
        **from_store,
    }
    archive = packed({name: scrubber.scrub(text) for name, text in files.items()})
    path = _written(archive, to)
    if as_json:
        print_json(file=str(path), bytes=len(archive), files=sorted(files))
        return
    print_line(f"{path} ({len(archive) // 1024 + 1} KiB)")
    print_line("It holds no card data, no tokens, no PINs and no names. Look inside before you send it: `tar -tzf`.")


def traces(client: Client) -> dict[str, str]:
    """The newest lines of every device's trace, where a hub runs; they hold no card data."""
    try:
        driven = [item["id"] for item in items_of(client.get("/v1/devices")) if item["driver"] and item["state"]]
        return {f"traces/{one}.txt": _trace(client, one) for one in driven}
    except HubError:
        return {}  # what the hub itself says stands in status.json


def _trace(client: Client, device: str) -> str:
    try:
        return "".join(f"{line_text(line)}\n" for line in lines_of(client, device)[-TRACE_LINES:])
    except RefusedError as error:
        return f"{error.code}\n"


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n"


def _status(config: Config) -> dict[str, Any]:
    from hubd.cli.client import Client

    client = Client.of(config)
    found: dict[str, Any] = {"service": service_state()}
    for name, path in (("hub", "/v1/hub"), ("sync", "/v1/sync"), ("problems", "/v1/problems"), ("ready", "/readyz")):
        try:
            found[name] = client.get(path)
        except HubUnreachableError as error:
            return found | {"unreachable": {"code": error.code, "detail": error.detail}}
        except HubError as error:
            found[name] = {"code": error.code}
    return found


def versions() -> dict[str, str]:
    """Of the program, of Python, of the machine and of the libraries that matter."""
    from hubd.store.offline import sqlite_version

    found = {
        "hubd": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "sqlite": sqlite_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def store_files(config: Config) -> tuple[Scrubber, dict[str, str]]:
    """What the store says, and a scrubber that knows the people in it."""
    from hubd.store import offline

    try:
        with dead_store(config) as connection:
            scrubber = Scrubber.of(offline.personal_texts(connection))
            entries = offline.last_entries(connection, ENTRIES)
            return scrubber, {
                "store.json": pretty(summary_json(offline.summary(connection))),
                "schema.sql": offline.schema_text(connection),
                "entries.json": pretty([{"seq": seq, "kind": kind, "subject": what} for seq, kind, what in entries]),
            }
    except HubError as error:
        return Scrubber(), {"store.json": pretty({"error": error.code, "detail": error.detail})}


def recent_logs(config: Config) -> str:
    """The newest records, allowed fields only."""
    wanted, source = Filter({}, "debug"), log_file(config)
    try:
        records: Iterable[dict[str, Any]] = (
            file_records(source, wanted, LOG_LINES) if source else journal_records(wanted, "", LOG_LINES, follow=False)
        )
        kept = [{name: value for name, value in record.items() if name in KEPT_FIELDS} for record in records]
    except HubError as error:
        kept = [{"error": error.code}]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)


def packed(files: dict[str, str]) -> bytes:
    """The archive's bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in sorted(files.items()):
            raw = text.encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"hubd-bugreport/{name}")
            entry.size, entry.mode = len(raw), 0o600
            archive.addfile(entry, io.BytesIO(raw))
    return buffer.getvalue()


def _written(archive: bytes, to: Path | None) -> Path:
    """Write where it can be written: where asked, here, or in the temporary directory (the disk may be full)."""
    from hubd.runtime import SystemIds

    name = f"hubd-bugreport-{SystemIds().new_id()[:13]}.tar.gz"
    places = [to] if to else [Path.cwd(), Path(tempfile.gettempdir()), Path("/dev/shm")]
    problem = ""
    for place in places:
        path = place / name
        try:
            path.touch(mode=0o600, exist_ok=False)
            path.write_bytes(archive)
        except OSError as exc:
            problem = f"{place}: {exc.strerror}"
            path.unlink(missing_ok=True)
            continue
        return path
    raise HubError("bugreport.no_place", f"It could not be written ({problem}).", remedy="Name a directory with --to.")
