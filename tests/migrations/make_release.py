"""Write what a release is remembered by: the schema in one file, and a journal with every kind of entry it makes.

    python -m tests.migrations.make_release latest      hubd/store/schema/latest.sql, after a schema step changed
    python -m tests.migrations.make_release 0.1.0       releases/0.1.0.sql, once, when that version is released

A journal of a release is never written again once the release is out.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 (one seed makes one journal)
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from hubd.model.entry import Draft
from hubd.model.kinds import KINDS
from hubd.store import journal, migrations
from hubd.store.db import Database, open_database
from hubd.store.tx import Tx
from tests.unit.store import journals

RELEASES = Path(__file__).parent / "releases"
LATEST = Path(migrations.__file__).parent / "schema" / "latest.sql"
MANAGER, DEVICE, TERMINAL, OUTAGE = "m-1", "till-1", "zvt-1", "o-1"


def schema_of(connection: sqlite3.Connection) -> str:
    """Every statement that makes the schema, in a fixed order, with the two numbers of the file."""
    rows = connection.execute(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        " ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 ELSE 2 END, name"
    )
    statements = ";\n\n".join(row[0] for row in rows)
    return f"-- Schema {migrations.SCHEMA}, compat {migrations.COMPAT}. Written by tests/migrations.\n\n{statements};\n"


def by_steps(upto: int = migrations.SCHEMA) -> sqlite3.Connection:
    """An empty store, made by the numbered steps."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrations.migrate(connection, upto)
    return connection


def _money(**more: Any) -> dict[str, Any]:
    return journals.payment_body(**more)


def drafts() -> list[Draft]:
    """At least one entry of every kind, in an order that the machines allow."""
    rng = random.Random(2026)
    one = journals.document(rng, b"Ada", "staff_name")
    pin = journals.document(rng, b"verifier", "pin_verifier")
    receipt = journals.document(rng, b"CARD 12.50 EUR", keep_until="2036-12-31", law="LPF L102 B")
    ids = [journals.any_id(rng) for _ in range(16)]
    claim = {"driver": "zvt", "device_class": "terminal", "address": "tcp://192.0.2.7:20007", "identity": "52500038"}
    line = {"article": "a-1", "name": "Baguette", "quantity": 1000, "unit": "piece", "tax_rate": "5.5"}
    order = _money(series="A", counter=1, lines=[line | {"gross": 1250, "net": 1185, "discount": 0}])
    statement: dict[str, Any] = {"outage": OUTAGE, "finality": "provisional", "replaces": None, "ranges": []}
    made: list[Draft] = []

    def add(kind: str, subject: str = "", body: dict[str, Any] | None = None, actor: str = "hub", **more: Any) -> None:
        made.append(Draft(kind, subject, actor, body or {}, **more))

    def payment(number: int, *events: str, begin: str = "requested", **more: Any) -> None:
        add(f"payment.{begin}", ids[number], _money(tender="card", method="card", **more), f"device:{DEVICE}")
        for event in events:
            evidence = {"trace_number": "000123", "receipt_number": "0042"} if event in ("approved", "stored") else {}
            place = {name: more[name] for name in ("outage", "terminal") if name in more}
            add(f"payment.{event}", ids[number], _money(evidence=evidence, reason="r", manual="success", **place))

    add("hub.set_up", "", {"name": "Demo"})
    add("clock.corrected", "", {"from_us": 1, "to_us": 2})
    add("hub.enrolled", "", {"tenant": "t-1", "store": "s-1", "locations": ["loc-1"], "root_key": "cc" * 32})
    add("epoch.assigned", "", {"line": journals.LINE_1.hex(), "epoch": 3})
    word = {"hub": "aa" * 16, "line": "bb" * 16, "successor": journals.LINE_1.hex(), "upto_seq": 7, "epoch": 3}
    signed = {"time_us": 8, "key_id": "k-1", "public_key": "dd" * 32, "root_signature": "", "signature": "ee" * 64}
    add("line.replaced", "bb" * 16, word | signed | {"stops": False})
    add("cloud.keys_rotated", "", {"key_id": "k-2", "public_key": "dd" * 32})
    add("location.set", "loc-1", {"name": "Lyon", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"})
    add("staff.added", MANAGER, {"language": "fr"}, documents=(one, pin))
    add("staff.changed", MANAGER, {"language": "nl"}, documents=(journals.document(rng), journals.document(rng)))
    add("staff.second_factor_confirmed", MANAGER, documents=(journals.document(rng, b"{}", "second_factor"),))
    add("staff.second_factor_recovered", MANAGER, {"number": 3})
    add("staff.second_factor_reset", MANAGER)
    add("staff.second_factor_confirmed", MANAGER, documents=(journals.document(rng, b"{}", "second_factor"),))
    add("grant.given", MANAGER, {"location": "loc-1", "role": "manager"})
    add("grant.given", MANAGER, {"location": "*", "role": "auditor"})
    add("grant.withdrawn", MANAGER, {"location": "*", "role": "auditor"})
    add("device.paired", DEVICE, {"kind": "till", "name": "Till 1", "location": "loc-1", "token_sha256": "ee" * 32})
    add("device.claimed", TERMINAL, claim | {"kind": "terminal", "name": "T", "location": "loc-1", "role": "till 1"})
    add("device.signed_in", TERMINAL, {"staff": MANAGER}, f"staff:{MANAGER}")
    add("device.located", TERMINAL, {"location": "loc-1", "step": True}, f"staff:{MANAGER}")
    add("device.named", TERMINAL, {"name": "T", "after": "", "step": True}, f"staff:{MANAGER}")
    add("device.synced", TERMINAL, {"number": "52500038", "software": "App 1.2"})
    add("device.activated", TERMINAL, {}, f"staff:{MANAGER}")
    said = {"model": "A920", "providers": ["CCV", "Other"], "default_password": True}
    add("device.declared", TERMINAL, said, f"staff:{MANAGER}")
    secret = journals.document(rng, b"sealed", "device_secrets")
    options = {"driver": "zvt", "options": {"baud": "9600"}, "secrets": ["password"], "document": secret.id.hex()}
    add("device.configured", TERMINAL, options, f"staff:{MANAGER}", documents=(secret,))
    add("device.needs", TERMINAL, {"needs": "parameter_session_needed"})
    fetched = {"by": "person", "done": True, "reason": "", "fetched": ["CCV"], "left": ["Other"]}
    add("device.parameters_fetched", TERMINAL, fetched | {"needs": "parameter_session_needed"}, f"staff:{MANAGER}")
    contact = {"ran": True, "done": True, "reason": "", "before": "unknown", "after": "unknown", "needs": ""}
    add("device.tms_contacted", TERMINAL, contact, f"staff:{MANAGER}")
    add("device.assigned", TERMINAL, {"role": "till 2", "name": "T2", "address": "tcp://192.0.2.8:20007"})
    setting = {"key": "day.starts_at_minute", "scope": "hub", "effective_from_us": 0, "version": 1, "source": "local"}
    add("setting.changed", "day.starts_at_minute", setting | {"value": 240}, f"staff:{MANAGER}")
    add("numbers.opened", "A", {"series": "A", "owner": DEVICE, "purpose": "order"})
    outage = {"cause": "network_outage", "started_at_us": 5, "started_mono_ms": 1}
    add("outage.opened", OUTAGE, outage)
    add("order.placed", ids[0], order, f"device:{DEVICE}")
    add("order.awaiting_payment", ids[0])
    add("order.paid_offline_pending", ids[0])
    add("order.paid", ids[0])
    add("order.placed", ids[1], order | {"counter": 2}, f"device:{DEVICE}")
    add("order.cancelled", ids[1])
    payment(2, begin="recorded", series="A", counter=3)
    add("payment.joined_outage", ids[2], _money(outage=OUTAGE, state="approved", before_reversal=None))
    payment(3, begin="refused", reason="limit")
    payment(4, begin="announced")
    payment(5, "started", "approved", "reversal_requested", "reversal_failed", "reversal_requested", "reversed")
    payment(6, "started", "declined", "conflicted")
    payment(7, "started", "cancelled")
    payment(8, "started", "unknown", "resolved")
    payment(9, "started", "stored", "forwarding", "requeued", "forwarding", "forwarded", "captured", outage=OUTAGE)
    payment(10, "started", "stored", "declined_late", outage=OUTAGE, terminal=TERMINAL)
    payment(11, "started", "stored", "expired")
    payment(12, "started", "stored", "rejected")
    payment(13, "started", "stored")
    made[-1] = Draft(made[-1].kind, ids[13], "hub", made[-1].body, documents=(receipt,))
    add("receipt.printed", ids[5], {"copy": True})
    paper = {"title": "Receipt A-000001", "printer": "printer-1", "payment": ids[5], "purpose": "customer"}
    add(
        "print.requested",
        ids[14],
        paper | {"document": receipt.id.hex(), "device": DEVICE, "staff": "", "location": "loc-1"},
    )
    for event in (
        "moved",
        "started",
        "postponed",
        "started",
        "unknown",
        "again",
        "started",
        "printed",
        "again",
        "cancelled",
    ):
        add(f"print.{event}", ids[14], {"reason": "r"})
    add("override.given", ids[8], {"what": "previous_unknown"}, f"staff:{MANAGER}")
    add("end_of_day.started", TERMINAL, {"location": "loc-1", "mode": "live"}, f"staff:{MANAGER}")
    add("end_of_day.closed", TERMINAL, {"total": 1250, "currency": "EUR"})
    row = {"what": "count", "currency": "EUR", "terminal": 1, "hub": 2, "cloud": None, "result": "different"}
    add("end_of_day.compared", TERMINAL, {"started_seq": 90, "undone_before": 0, "differs": True, "rows": [row]})
    add("outage.closed", OUTAGE, {"cause": "network_outage", "ended_at_us": 9})
    add("outage.terminal_heard", OUTAGE, {"terminal": TERMINAL})
    add("outage.terminal_closed", OUTAGE, {"terminal": TERMINAL}, f"staff:{MANAGER}")
    add("statement.received", "st-1", {"statement": statement, "agrees": True})
    add("backup.made", "", {"place": "usb", "seq": 1, "hash": "ff" * 32, "sha256": "ff" * 32, "size": 1})
    add("backup.key_set", "", {"tenant": "t-1", "public_key": "ab" * 32})
    add("sync.forgotten_listed", "", {"count": 0})
    add("numbers.released", "A", {"series": "A", "from": 4})
    place = {"location": "loc-1", "name": "T2", "role": "till 2", "settings_of": "tcp://192.0.2.8:20007"}
    add("device.claimed", "zvt-2", claim | {"kind": "terminal", "name": "T2", "location": "loc-1", "role": "till 2"})
    add("device.replaced", TERMINAL, place | {"by": "zvt-2", "leaving": True}, f"staff:{MANAGER}")
    add("device.closed", TERMINAL, {"count": 1, "total": 1250, "currency": "EUR", "closed_unheard": 0})
    add("device.signed_out", TERMINAL, {"staff": MANAGER}, f"staff:{MANAGER}")
    add("device.deactivated", TERMINAL)
    add("device.removed", TERMINAL)
    add("staff.removed", MANAGER)
    add("document.erased", one.id.hex(), {"id": one.id.hex(), "reason": "asked"})
    add("weather.changed", "", {"sky": "unknown to every release"})
    return made


async def write_journal(db: Database) -> None:
    """All drafts, each in its own transaction, over two lines."""
    await db.write("open", journals.line_opened)
    for draft in drafts():

        def work(tx: Tx, draft: Draft = draft) -> None:
            journal.append(tx, draft)

        await db.write("append", work)
    await db.write("reopen", lambda tx: journals.line_opened(tx, journals.LINE_2, "restored"))


def kinds_without_entry() -> set[str]:
    """Kinds that this program writes and the release's journal would not show; archive.cut has tests of its own."""
    return set(KINDS) - {draft.kind for draft in drafts()} - {"line.opened", "archive.cut"}


async def dump_release(version: str) -> Path:
    """Write `releases/VERSION.sql`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hub.db"
        async with open_database(path, journals.runtime()) as db:
            await write_journal(db)
        connection = sqlite3.connect(path)
        lines = [f"PRAGMA user_version={migrations.SCHEMA};", *connection.iterdump()]
        connection.close()
    target = RELEASES / f"{version}.sql"
    target.write_text("\n".join(lines) + "\n", "utf-8")
    return target


if __name__ == "__main__":
    if sys.argv[1] == "latest":
        LATEST.write_text(schema_of(by_steps()), "utf-8")
    else:
        asyncio.run(dump_release(sys.argv[1]))
