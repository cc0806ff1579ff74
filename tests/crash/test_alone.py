"""Alone is normal (promise 7): no Internet, a clock that says 1970, a certificate that has run out.

The whole process lives in 1970 (libfaketime), so nothing in it can know better: not SQLite, not OpenSSL, not a log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509

from tests.crash.books import check_books
from tests.crash.store import STEP_TIMEOUT_S, Store, open_store
from tests.rigs.process import RigError, wait_until

pytestmark = pytest.mark.timeout(180)

LATER = "@2040-06-01 09:00:00"
"""Beyond the life of any server certificate that was made before (800 days)."""
AFTER_BOOT_1970 = "@1970-01-01 00:00:20"


def clock_says(moment: str) -> dict[str, str]:
    """The environment of a process whose wall clock starts at `moment`; intervals stay true."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        raise RigError("libfaketime is not installed; apt-get install faketime")
    return {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME": moment,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",  # or every compiled module looks older than its source and is compiled anew
        "TZ": "UTC",
    }


async def in_outage(store: Store) -> None:
    """Wait until the hub has noticed that there is no Internet."""

    async def noticed() -> bool:
        shown: dict[str, Any] = await store.ask("GET", "/v1/hub")
        return bool(shown["mode"] == "network_outage")

    await wait_until(noticed, STEP_TIMEOUT_S, "the outage")


async def sells_and_shows(store: Store, card_reason: str) -> None:
    """Cash and card, a receipt, the page, hubctl."""
    till, terminal = store.tills[0], next(iter(store.terminals.values()))
    cash = await till.pay(till.plan(1250, "cash"))
    assert cash["state"] == "approved"
    await store.terminals_ready()
    sale = till.plan(2311, terminal=terminal)  # the simulator stores amounts that end in 11
    await till.pay(sale)
    card = await till.settled(sale, unknown=True)
    assert (card["state"], card["reason"]) == (("refused", card_reason) if card_reason else ("stored", ""))
    receipt = await till.client.get(f"/v1/payments/{cash['id']}/receipt")
    assert (receipt["number"], receipt["fiscal"]["seq"]) == (cash["number"], cash["accepted"]["seq"])
    assert (await till.client.get("/v1/payments?limit=10"))["items"]
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{store.http_port}", follow_redirects=True, timeout=STEP_TIMEOUT_S
    ) as browser:
        page = await browser.get("/")
    assert page.status_code == 200
    assert "<html" in page.text
    assert store.hubctl("status").returncode in {0, 1}, store.hubctl("status").stderr


async def test_a_hub_in_1970_without_internet_is_set_up_pairs_and_sells() -> None:
    """From nothing: a fresh machine whose clock has never been set."""
    async with open_store({"terminal": ()}, tills=1, env=clock_says(AFTER_BOOT_1970), online=False) as store:
        await in_outage(store)
        store.tills.append(await store.pair("Till 2"))
        await sells_and_shows(store, "")
        store.process.kill()
        check_books(store.database, store.sales, store.simulators)
        assert store.hubctl("journal", "verify").returncode == 0


async def test_a_hub_whose_certificate_has_run_out_goes_on() -> None:
    """Made today, booted with a clock far beyond its end: paired tills connect all the same, and new ones pair."""
    async with open_store({"terminal": ()}, tills=1) as store:
        sale = store.tills[0].plan(900, "cash")
        before = await store.tills[0].pay(sale)
        leaf = x509.load_pem_x509_certificate((store.data / "keys" / "leaf.pem").read_bytes())
        assert leaf.not_valid_after_utc.year < 2040
        store.process.kill()
        store.restart_with(clock_says(LATER))
        await store.start_hub()
        assert (await store.tills[0].pay(sale))["accepted"] == before["accepted"]
        await sells_and_shows(store, "")
        store.tills.append(await store.pair("Till 2"))
        assert (await store.tills[1].pay(store.tills[1].plan(700, "cash")))["state"] == "approved"
        # And back into a year in which nothing of it has begun.
        store.process.kill()
        store.restart_with(clock_says(AFTER_BOOT_1970))
        await store.start_hub()
        assert (await store.tills[0].pay(sale))["accepted"] == before["accepted"]
        assert (await store.tills[1].pay(store.tills[1].plan(800, "cash")))["state"] == "approved"
        store.process.kill()
        check_books(store.database, store.sales, store.simulators)
