"""The data directory of a hub that does not run, and hubctl on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hubd.model.entry import Document, Draft
from hubd.store import backup, journal
from hubd.store.db import open_database
from hubd.store.tx import Tx
from tests.unit.store import journals

NAME = "Margaux Vandenbroucke"
VERIFIER = "$scrypt$ln=15$c2FsdHNhbHQ$aGFzaGhhc2g"
TOKEN = "Qm9vb0Fhd1hZejAxMjM0NTY3ODlhYmNkZWZnaGlqa2w"
CARD = "4111111111111111"
PAYMENTS = 12
MAIN = "from hubd.cli import main; main()"


def document(number: int, klass: str, content: str) -> Document:
    return Document(bytes([number]) * 16, klass, bytes([number]) * 32, content.encode())


def fill(tx: Tx) -> None:
    """A line, a cashier with name and PIN, cash sales and an unknown card payment."""
    journals.line_opened(tx)
    people = (document(1, "staff_name", NAME), document(2, "pin_verifier", VERIFIER))
    staff = "01900000-0000-7000-8000-00000000aaaa"
    journal.append(tx, Draft("staff.added", staff, "hub", {"language": "fr"}, documents=people))
    for number in range(PAYMENTS):
        journal.append(tx, journals.cash_sale(f"01900000-0000-7000-8000-{number:012d}"))
    unknown = "01900000-0000-7000-8000-00000000ffff"
    journal.append(tx, journals.card_request(unknown, terminal="t1"))


async def stopped_hub(folder: Path) -> Path:
    """The data directory of a hub that has stopped in order, in `folder`; beside it the file `code`."""
    data = folder / "data"
    data.mkdir(mode=0o700)
    async with open_database(data / "hub.db", journals.runtime()) as db:
        await db.write("fill", fill)
        code = await db.write("code", lambda tx: backup.set_recovery(tx, backup.new_recovery(journals.runtime().ids)))
    (folder / "code").write_text(code)
    return data


def settings_of(data: Path) -> dict[str, str]:
    """The environment in which hubctl is about the hub whose data this is."""
    run, config = data.parent / "run", data.parent / "none.toml"
    return {"HUBD_PATHS_DATA": str(data), "HUBD_PATHS_RUNTIME": str(run), "HUBD_CONFIG": str(config)}


def hubctl(data: Path, *args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run hubctl on the hub whose data this is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUBD_")}
    return subprocess.run(
        [sys.executable, "-c", MAIN, *args],
        input=stdin,
        capture_output=True,
        text=True,
        env={**kept, **settings_of(data), **environ},
        timeout=60,
        check=False,
    )


def as_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(done.stdout)
    assert value["schema"] == 1
    return value
