"""`hubctl outages statement --json > file`, then `hubctl outages verify file`: the one takes what the other prints."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from hubd.model.entry import Draft
from hubd.model.statement import canonical_bytes
from hubd.store import journal
from sync.cloud.keys import SigningKey
from tests.rigs.api import ServedHub, served_hub
from tests.tidy.tree import ROOT

KEY = SigningKey.of_seed(bytes(range(32)))
OUTAGE = "01890000-0000-7000-8000-0000000000c1"
BUCKETS = {"taken": {"count": 3, "total": 3750}, "cash": {"count": 3, "total": 3750}, "card": {"count": 0, "total": 0}}
STATEMENT = "01890000-0000-7000-8000-0000000000c2"


def signed() -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": STATEMENT,
        "outage": OUTAGE,
        "finality": "final",
        "replaces": None,
        "format": 1,
        "key_id": KEY.key_id,
        "ranges": [{"line": "ab" * 16, "from_seq": 1, "upto_seq": 1, "hash": "cd" * 32}],
        "payments": {"count": 3, "ids_sha256": "ef" * 32},
        "started_at_us": 1_000_000,
        "ended_at_us": 61_000_000,
        "cause": "network_outage",
        "totals": [{"currency": "EUR", "kind": "sale", "exponent": 2, "buckets": BUCKETS}],
        "open": 0,
        "lost": 0,
        "doubled": 0,
        "quarantined": {"count": 2, "totals": []},
        "uninterpreted": 1,
    }
    return {**document, "signature": KEY.sign(canonical_bytes(document)).hex()}


async def hubctl(hub: ServedHub, *args: str) -> tuple[int, str]:
    folder = str(hub.socket.parent)
    places = {"HUBD_PATHS_DATA": folder, "HUBD_PATHS_RUNTIME": folder, "HUBD_CONFIG": f"{folder}/none.toml"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUBD_")}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "from hubd.cli import main; main()", *args],
        env={**kept, **places, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


async def test_verify_takes_what_statement_prints_and_the_signed_document_alone(tmp_path: Path) -> None:
    body = {"agrees": True, "cause": {}, "reasons": [], "statement": signed()}
    kept, bare, changed = (tmp_path / name for name in ("kept.json", "bare.json", "changed.json"))
    key = ("--cloud-key", KEY.public_key.hex())
    async with served_hub(tmp_path) as hub:
        outage = {"cause": "network_outage", "started_at_us": 1_000_000, "started_mono_ms": 1}
        for draft in (
            Draft("outage.opened", OUTAGE, "hub", outage),
            Draft("statement.received", STATEMENT, "hub", body),
        ):
            await hub.shop.services.db.write("statement", partial(journal.append, draft=draft))
        code, printed = await hubctl(hub, "outages", "statement", OUTAGE, "--json")
        assert code == 0, printed
        document = json.loads(printed)["statement"]
        code, shown = await hubctl(hub, "outages", "statement")
        assert code == 0, shown
        apart = "2 payments of a copy, 1 records of a newer version"
        for part in (
            "FINAL: hub and cloud agree",
            "3: 0 lost, 0 doubled, 0 open",
            "network outage",
            "37.50 EUR",
            apart,
        ):
            assert part in shown, shown
        assert "card" not in shown, shown
        await asyncio.to_thread(kept.write_text, printed, "utf-8")
        await asyncio.to_thread(bare.write_text, json.dumps(document["statement"]), "utf-8")
        document["statement"]["payments"]["count"] = 4
        await asyncio.to_thread(changed.write_text, json.dumps(document), "utf-8")
        for file in (kept, bare):
            code, printed = await hubctl(hub, "outages", "verify", str(file), *key)
            assert (code, "over 3 payments is right" in printed) == (0, True), printed
        code, printed = await hubctl(hub, "outages", "verify", str(changed), *key)
        assert (code, printed.startswith("WRONG: The signature")) == (1, True), printed


async def test_what_the_hub_cannot_read_was_typed_wrong(tmp_path: Path) -> None:
    async with served_hub(tmp_path) as hub:
        assert (await hubctl(hub, "payments", "--state", "bogus"))[0] == 2
        assert (await hubctl(hub, "documents", "erase", OUTAGE))[0] == 1, "no such document is an answer"
