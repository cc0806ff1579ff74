"""The shipped client against a hub behind real sockets: pairing by QR, paying, following, restarts and restores."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hubd.services.lines import LineReason
from local_api.client import HubClient, HubNotTrustedError, Memory, Pairing, PairingCode, ProblemError, new_id
from local_api.client.client import fetch_ca
from local_api.client.trust import pinned_context
from tests.rigs.api import served_hub
from tests.unit.services.shop import shop_runtime


async def test_a_till_pairs_by_qr_pays_and_follows(tmp_path: Path) -> None:
    async with served_hub(tmp_path) as hub:
        credential = await hub.pair()
        async with HubClient(credential) as till:
            about = await till.get("/v1/hub")
            assert (about["hub"], about["you"]["device"]) == (credential.hub, credential.device)
            payment = new_id()
            async with aclosing(till.follow()) as events, asyncio.TaskGroup() as group:

                async def first_event() -> tuple[str, str, dict[str, Any]]:
                    return await anext(events)

                first = group.create_task(first_event())
                async with hub.shop.services.runtime.clock.timeout(10):
                    while not first.done():
                        # The stream begins at the moment it is opened, so pay until it has seen one.
                        await till.pay(payment, 1250, "EUR", tender="cash")
                        payment = new_id()
                kind, event_id, data = await first
            assert kind == "payment.recorded"
            assert data["data"]["amount"] == 1250
            line, _, seq = event_id.partition(":")
            entry = (await till.get("/v1/payments?limit=200"))["items"][-1]["accepted"]
            assert (line, int(seq) >= entry["seq"]) == (entry["line"], True)


async def test_events_resume_exactly_and_an_unknown_place_is_told_to_resync(tmp_path: Path) -> None:
    async with served_hub(tmp_path) as hub, HubClient(await hub.pair()) as till:
        paid = [new_id() for _ in range(3)]
        for payment in paid:
            await till.pay(payment, 100, "EUR", tender="cash")
        shown = [await till.get(f"/v1/payments/{payment}") for payment in paid]
        place = f"{shown[0]['accepted']['line']}:{shown[0]['accepted']['seq']}"
        async with aclosing(till.follow(place)) as events:
            seen = [await anext(events), await anext(events)]
        assert [data["subject"] for _, _, data in seen] == paid[1:]
        async with aclosing(till.follow("ff" * 16 + ":3")) as events:
            kind, _, data = await anext(events)
        assert (kind, data["data"]["seq"]) == ("resync", shown[2]["accepted"]["seq"])


async def test_a_hub_with_another_key_is_not_spoken_to(tmp_path: Path) -> None:
    async with served_hub(tmp_path) as hub:
        async with hub.administrator() as administrator:
            opened = (await administrator.post("/v1/pairing-codes", json={"kind": "till"})).json()
            code = replace(PairingCode.parse(opened["qr"]), fingerprint="11" * 32)
            with pytest.raises(HubNotTrustedError):
                await Pairing(code, "Till 1").complete()
            still = (await administrator.get("/v1/pairing-codes")).json()["items"]
        assert [one["state"] for one in still] == ["open"], "the code must not have been sent to a stranger"
    other = tmp_path / "other"
    other.mkdir()
    async with served_hub(other) as stranger:
        # A CA that is not the pinned one: the handshake itself fails.
        pem = hub.certificates.ca_file.read_text("ascii")
        async with HubClient(replace(await stranger.pair(), ca_pem=pem)) as till:
            with pytest.raises(Exception, match="No address of the hub answers"):
                await till._wire.send("GET", "/v1/hub")


async def test_a_removed_till_is_a_stranger_at_once(tmp_path: Path) -> None:
    async with served_hub(tmp_path) as hub:
        credential = await hub.pair()
        async with HubClient(credential) as till, hub.administrator() as administrator:
            await till.get("/v1/payments")
            assert (await administrator.delete(f"/v1/pairings/{credential.device}")).status_code == 204
            with pytest.raises(ProblemError) as refused:
                await till.get("/v1/payments")
            assert (refused.value.status, refused.value.code) == (401, "access.unknown_token")


async def test_a_restored_hub_is_found_out_by_its_till_and_nothing_is_charged_twice(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "till.json")
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    async with served_hub(before) as hub:
        credential = await hub.pair()
        async with HubClient(credential, memory) as till:
            kept = new_id()
            await till.pay(kept, 100, "EUR", tender="cash")
        port = hub.https_port
    await asyncio.to_thread(shutil.copytree, before, after, ignore=shutil.ignore_patterns("*.sock"))
    forgotten = new_id()
    second = served_hub(before, shop_runtime(b"2-process"), https_port=port)
    async with second, HubClient(credential, memory) as till:
        await till.pay(forgotten, 200, "EUR", tender="cash")
    restored = served_hub(after, shop_runtime(b"3-process"), reason=LineReason.RESTORED, https_port=port)
    memory = await asyncio.to_thread(Memory.load, tmp_path / "till.json")
    async with restored, HubClient(credential, memory) as till:
        again = await till.pay(forgotten, 200, "EUR", tender="cash")
        assert again["state"] == "approved", "the till was there: its cash is cash again, once"
        assert (await till.get(f"/v1/payments/{kept}"))["state"] == "approved"
        assert (await till.pay(new_id(), 300, "EUR", tender="cash"))["state"] == "approved"


async def test_the_pinned_context_reads_no_clock_but_checks_the_key(tmp_path: Path) -> None:
    async with served_hub(tmp_path) as hub:
        addresses = (f"127.0.0.1:{hub.https_port}",)
        pem = await fetch_ca(addresses, hub.fingerprint)
        context = pinned_context(pem)
        assert context.verify_mode is ssl.CERT_REQUIRED
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.https_port, ssl=context)
        assert reader is not None
        writer.close()
        await writer.wait_closed()
        with pytest.raises(HubNotTrustedError):
            await fetch_ca(addresses, "22" * 32)


async def test_a_repeat_to_a_restored_hub_is_not_a_first_attempt(tmp_path: Path) -> None:
    """The hub took the payment, its answer was lost, and the hub was restored from before: the till tells it first."""
    memory = Memory(tmp_path / "till.json")
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    async with served_hub(before) as hub:
        credential = await hub.pair()
        async with HubClient(credential, memory) as till:
            await till.pay(new_id(), 100, "EUR", tender="cash")
        port = hub.https_port
    await asyncio.to_thread(shutil.copytree, before, after, ignore=shutil.ignore_patterns("*.sock"))
    body = {"amount": {"amount": 200, "currency": "EUR"}, "tender": "cash"}
    lost = new_id()
    async with served_hub(before, shop_runtime(b"2-process"), https_port=port), HubClient(credential, memory) as till:
        await till.pay(new_id(), 50, "EUR", tender="cash")
    await memory.attempt(lost, body)  # sent, and the power of the till failed before the answer came
    memory = await asyncio.to_thread(Memory.load, tmp_path / "till.json")
    restored = served_hub(after, shop_runtime(b"3-process"), reason=LineReason.RESTORED, https_port=port)
    async with restored, HubClient(credential, memory) as till:
        again = await till.pay(lost, 200, "EUR", tender="cash")
        assert again["state"] == "unknown", "whether the first attempt was taken, only a person at the drawer knows"
        assert lost not in memory.unanswered
