"""`GET /v1/scans`: a till hears its own scanners and those that its shop shares, without ids, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from drivers.sim.scanner import SerialScannerSimulator
from hubd.model.device import DeviceKind
from local_api.client import Credential
from tests.integration.test_api_events import Follower, context_of
from tests.rigs.api import ServedHub, served_hub
from tests.unit.services.shop import LOCATION, Terminals, shop_runtime

WAIT_S = 10
SECOND = "01890000-0000-7000-8000-000000000002"
OWN, SHARED, FAR = "tcp://scanner-1", "tcp://scanner-2", "tcp://scanner-3"
CODES = {OWN: "4006381333931", SHARED: "5449000000996", FAR: "8711000525005"}


@asynccontextmanager
async def hearing(hub: ServedHub, credential: Credential | None) -> AsyncIterator[Follower]:
    """The scans that this till hears; those of the administrator without one."""
    if credential is None:
        client = hub.administrator()
        headers = {}
    else:
        client = httpx2.AsyncClient(verify=await context_of(hub), base_url=hub.https, timeout=WAIT_S)
        headers = {"authorization": f"Bearer {credential.token}"}
    async with client, client.stream("GET", "/v1/scans", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        yield Follower(answer)


async def test_scans_go_to_the_till_that_has_the_scanner_and_to_no_other_shop(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    scanners = {url: SerialScannerSimulator(counter.runtime) for url in CODES}
    counter.others |= scanners
    async with served_hub(tmp_path, terminals=counter) as hub:
        first, second = await hub.pair("Till 1"), await hub.pair("Till 2")
        here = await hub.shop.add_peripheral(OWN, "serial_scanner", DeviceKind.SCANNER, f"till:{first.device}")
        shared = await hub.shop.add_peripheral(SHARED, "serial_scanner", DeviceKind.SCANNER)
        far = await hub.shop.add_peripheral(FAR, "serial_scanner", DeviceKind.SCANNER)
        place = {"name": "Lens", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        async with hub.administrator() as administrator:
            made = await administrator.put(f"/v1/locations/{SECOND}", json=place)
            assert made.status_code < 300, made.text
        elsewhere = hub.shop.services.peripherals.get(far)
        assert elsewhere is not None
        assert elsewhere.location == LOCATION
        elsewhere.location = SECOND
        async with hearing(hub, first) as one, hearing(hub, second) as two, hearing(hub, None) as all_shops:
            heard: dict[str, list[tuple[str, str, str]]] = {"one": [], "two": [], "all": []}

            async def listen(name: str, follower: Follower, until: str) -> None:
                while until not in {text for _, text, _ in heard[name]}:
                    event, event_id, told = await follower.next()
                    assert event == "scan"
                    assert told.get("id") is None
                    heard[name].append((told["subject"], told["data"]["text"], event_id))

            clock = hub.shop.services.runtime.clock

            async def scan_until(url: str, done: list[asyncio.Task[None]]) -> None:
                while not all(task.done() for task in done):
                    await scanners[url].scan(CODES[url])
                    await clock.sleep(0.4)

            async with asyncio.TaskGroup() as group, clock.timeout(3 * WAIT_S):
                # What another shop's and another till's scanner say comes first: had they been told, they were heard.
                far_heard = group.create_task(listen("all", all_shops, CODES[FAR]))
                await scan_until(FAR, [far_heard])
                own_heard = group.create_task(listen("one", one, CODES[OWN]))
                await scan_until(OWN, [own_heard])
                tasks = [group.create_task(listen("two", two, CODES[SHARED]))]
                tasks.append(group.create_task(listen("one", one, CODES[SHARED])))
                await scan_until(SHARED, tasks)
        assert {(subject, text) for subject, text, _ in heard["one"]} == {(here, CODES[OWN]), (shared, CODES[SHARED])}
        assert {(subject, text) for subject, text, _ in heard["two"]} == {(shared, CODES[SHARED])}
        assert {text for _, text, _ in heard["all"]} == {CODES[FAR]}
        assert {event_id for told in heard.values() for _, _, event_id in told} == {""}
