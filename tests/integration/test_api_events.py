"""Events over real sockets: the same by SSE and by WebSocket, for those who may see them, and nobody slows the hub."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, RejectConnection, Request, TextMessage

from hubd.services import feed as feed_module
from hubd.services.access import SESSION_IDLE_S
from local_api.client import HubClient, new_id
from local_api.client.trust import Credential, pinned_context
from tests.rigs.api import ServedHub, served_hub
from tests.unit.clocks import JumpingClock
from tests.unit.services.shop import LOCATION, shop_runtime

WAIT_S = 10


async def context_of(hub: ServedHub) -> ssl.SSLContext:
    return await asyncio.to_thread(lambda: pinned_context(hub.certificates.ca_file.read_text("ascii")))


class Follower:
    """One open stream of server-sent events."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self) -> tuple[str, str, Any]:
        """The next event: its name, its id, its data."""
        name, event_id = "", ""
        async for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                event_id = value
            elif field == "data":
                return name, event_id, json.loads(value)
        return "end", "", {}


@asynccontextmanager
async def following(hub: ServedHub, token: str, query: str = "") -> AsyncIterator[Follower]:
    async with httpx2.AsyncClient(verify=await context_of(hub), base_url=hub.https, timeout=WAIT_S) as client:
        headers = {"authorization": f"Bearer {token}"}
        async with client.stream("GET", f"/v1/events{query}", headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream"
            yield Follower(answer)


async def pay(hub: ServedHub, credential: Credential, amount: int = 100) -> str:
    async with HubClient(credential) as till:
        payment = new_id()
        await till.pay(payment, amount, "EUR", tender="cash")
        return payment


async def first_of_websocket(hub: ServedHub, query: str) -> Any:
    """The first message of a stream that is opened like this."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.https_port, ssl=await context_of(hub))
    socket = WSConnection(ConnectionType.CLIENT)
    writer.write(socket.send(Request(host="127.0.0.1", target=f"/v1/events/ws?{query}")))
    text = ""
    async with hub.shop.services.runtime.clock.timeout(WAIT_S):
        while not text.endswith("}"):
            socket.receive_data(await reader.read(65_536))
            for event in socket.events():
                assert not isinstance(event, RejectConnection | CloseConnection | BytesMessage), event
                if isinstance(event, AcceptConnection):
                    assert b"hub-line" in dict(event.extra_headers)
                if isinstance(event, TextMessage):
                    text += event.data
    writer.close()
    await writer.wait_closed()
    return json.loads(text)


async def test_a_websocket_carries_the_same_and_takes_a_ticket(hub: ServedHub, till: Credential) -> None:
    payment = await pay(hub, till)
    async with HubClient(till) as client:
        shown = await client.get(f"/v1/payments/{payment}")
        ticket = (await client.post("/v1/events/ticket"))["ticket"]
    after = shown["accepted"]["seq"] - 1
    told = await first_of_websocket(hub, f"ticket={ticket}&after={after}")
    assert (told["kind"], told["subject"], told["data"]["amount"]) == ("payment.recorded", payment, 100)
    assert told["id"] == f"{shown['accepted']['line']}:{shown['accepted']['seq']}"


async def test_a_browser_that_missed_a_restore_is_told_so(hub: ServedHub, till: Credential) -> None:
    """It can send no Last-Event-ID with its next ticket; the number alone may be another entry by now."""
    payment = await pay(hub, till)
    async with HubClient(till) as client:
        accepted = (await client.get(f"/v1/payments/{payment}"))["accepted"]
        tickets = [(await client.post("/v1/events/ticket"))["ticket"] for _ in range(2)]
    place = f"{accepted['line']}:{accepted['seq'] - 1}"
    told = await first_of_websocket(hub, f"ticket={tickets[0]}&after={place}")
    assert (told["kind"], told["subject"]) == ("payment.recorded", payment)
    elsewhere = f"{'ff' * 16}:{accepted['seq'] - 1}"
    told = await first_of_websocket(hub, f"ticket={tickets[1]}&after={elsewhere}")
    assert (told["kind"], told["data"]["seq"]) == ("resync", accepted["seq"])
    async with following(hub, till.token, f"?after={elsewhere}") as follower:
        assert (await follower.next())[0] == "resync"


async def test_a_websocket_without_proof_is_refused(hub: ServedHub) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.https_port, ssl=await context_of(hub))
    socket = WSConnection(ConnectionType.CLIENT)
    writer.write(socket.send(Request(host="127.0.0.1", target="/v1/events/ws")))
    socket.receive_data(await reader.read(65_536))
    event = next(iter(socket.events()))
    assert isinstance(event, RejectConnection)
    assert event.status_code == 401
    writer.close()
    await writer.wait_closed()


async def test_everybody_hears_the_same_event_and_it_is_rendered_once(
    hub: ServedHub, till: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    from local_api import events

    rendered: list[int] = []
    real = events.event_of

    def counting(entry: Any) -> Any:
        rendered.append(entry.seq)
        return real(entry)

    monkeypatch.setattr(events, "event_of", counting)
    async with asyncio.TaskGroup() as group, hub.administrator() as administrator:
        open_count = 0

        async def follow() -> tuple[str, str, Any]:
            nonlocal open_count
            async with administrator.stream("GET", "/v1/events", timeout=WAIT_S) as answer:
                follower = Follower(answer)
                open_count += 1
                return await follower.next()

        # The administrator's share is four times a device's: sixteen streams at once.
        waiting = [group.create_task(follow()) for _ in range(16)]
        async with hub.shop.services.runtime.clock.timeout(WAIT_S):
            while open_count < 16:
                await hub.shop.services.runtime.clock.sleep(0.01)
        payment = await pay(hub, till)
        heard = [await one for one in waiting]
    assert {(name, data["subject"]) for name, _, data in heard} == {("payment.recorded", payment)}
    assert len(rendered) == len(set(rendered)), "an entry was rendered for each follower anew"


async def test_a_phone_that_may_see_no_payments_hears_of_none(hub: ServedHub, till: Credential) -> None:
    async with hub.administrator() as administrator:
        opened = (await administrator.post("/v1/pairing-codes", json={"kind": "viewer"})).json()
        body = {"id": new_id(), "code": opened["code"], "name": "Phone", "kind": "viewer"}
        await administrator.post("/v1/pairings", json=body)
        await administrator.post(f"/v1/pairing-codes/{opened['id']}/confirm")
        phone = (await administrator.post("/v1/pairings", json=body)).json()["token"]
        async with following(hub, phone, "?after=0") as follower:
            await pay(hub, till)
            places = (await administrator.get("/v1/locations")).json()["items"][0]
            changed = {"name": "Moved", "zone": places["zone"], "currency": "EUR", "country": "FR"}
            await administrator.put(f"/v1/locations/{places['id']}", json=changed)
            kinds: list[tuple[str, str]] = []
            while not kinds or kinds[-1] != ("location.set", "Moved"):
                name, _, data = await follower.next()
                kinds.append((name, data["data"].get("name", "")))
    assert not [name for name, _ in kinds if name.startswith("payment")]


async def test_a_follower_too_far_behind_reads_the_lists_again(
    hub: ServedHub, till: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(6):
        await pay(hub, till)
    monkeypatch.setattr(feed_module, "BEHIND_MAX", 3)
    async with following(hub, till.token, "?after=1") as follower:
        name, _, data = await follower.next()
        assert name == "resync"
        assert data["data"]["seq"] == hub.shop.services.db.head.seq
        after = await pay(hub, till)
        name, _, data = await follower.next()
    assert (name, data["subject"]) == ("payment.recorded", after)


async def test_a_follower_that_leaves_is_forgotten_and_a_fifth_stream_is_refused(
    hub: ServedHub, till: Credential
) -> None:
    clock = hub.shop.services.runtime.clock
    for _ in range(3):
        async with following(hub, till.token) as one, following(hub, till.token) as two:
            assert one.answer.status_code == two.answer.status_code == 200
        # Were the streams not given back, the third round would be refused.
        async with clock.timeout(WAIT_S):
            while any("events" in task.get_name() or "api.stream" in task.get_name() for task in asyncio.all_tasks()):
                await clock.sleep(0.01)
    opened, done = asyncio.Semaphore(0), asyncio.Event()

    async def hold() -> None:
        async with following(hub, till.token):
            opened.release()
            await done.wait()

    client = httpx2.AsyncClient(verify=await context_of(hub), base_url=hub.https, timeout=WAIT_S)
    async with client, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(hold())
        for _ in range(4):
            await opened.acquire()
        answer = await client.get("/v1/events", headers={"authorization": f"Bearer {till.token}"})
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        done.set()


async def test_a_removed_till_hears_nothing_more(hub: ServedHub, till: Credential) -> None:
    other = await hub.pair("Till 2")
    async with following(hub, till.token) as follower, hub.administrator() as administrator:
        await administrator.delete(f"/v1/pairings/{till.device}")
        await pay(hub, other)
        assert (await follower.next())[0] == "end"


@pytest.mark.parametrize("end", ["signed out", "role withdrawn"])
async def test_a_person_s_stream_ends_with_the_session_and_with_the_role(
    hub: ServedHub, till: Credential, end: str
) -> None:
    marc, role = new_id(), {"role": "manager", "location": LOCATION}
    async with hub.administrator() as administrator:
        person = {"name": "Marc", "pin": "482915", "roles": [role, {"role": "cashier", "location": LOCATION}]}
        assert (await administrator.put(f"/v1/staff/{marc}", json=person)).status_code == 200
        async with httpx2.AsyncClient(verify=await context_of(hub), base_url=hub.https, timeout=WAIT_S) as client:
            client.headers["authorization"] = f"Bearer {till.token}"
            token = (await client.post("/v1/sessions", json={"staff": marc, "pin": "482915"})).json()["token"]
            client.headers["hub-session"] = token
            async with client.stream("GET", "/v1/events") as answer:
                follower = Follower(answer)
                await pay(hub, till)
                assert (await follower.next())[0] == "payment.recorded", "the control"
                if end == "signed out":
                    await client.delete("/v1/sessions")
                else:
                    await administrator.post(f"/v1/staff/{marc}/grants/withdraw", json=role)
                await pay(hub, till)
                told = await follower.next()
                while told[0] == "grant.withdrawn":
                    told = await follower.next()
                assert told[0] == "end"


async def test_a_person_s_stream_ends_when_the_session_is_idle_for_too_long(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with served_hub(tmp_path, shop_runtime(clock=clock)) as hub:
        till, marc = await hub.pair(), new_id()
        async with hub.administrator() as administrator:
            person = {"name": "Marc", "pin": "482915", "roles": [{"role": "manager", "location": LOCATION}]}
            assert (await administrator.put(f"/v1/staff/{marc}", json=person)).status_code == 200
        async with httpx2.AsyncClient(verify=await context_of(hub), base_url=hub.https, timeout=WAIT_S) as client:
            client.headers["authorization"] = f"Bearer {till.token}"
            token = (await client.post("/v1/sessions", json={"staff": marc, "pin": "482915"})).json()["token"]
            async with client.stream("GET", "/v1/events", headers={"hub-session": token}) as answer:
                follower = Follower(answer)
                await pay(hub, till)
                assert (await follower.next())[0] == "payment.recorded", "the control"
                clock.ahead_s += SESSION_IDLE_S + 1
                await pay(hub, till)
                assert (await follower.next())[0] == "end", "nobody needs to ask anything else for that"


async def test_a_stop_ends_streams_first_and_cut_requests_hear_it(tmp_path: Path) -> None:
    async with served_hub(tmp_path) as hub:
        credential = await hub.pair()
        clock = hub.shop.services.runtime.clock
        async with following(hub, credential.token) as follower:
            begun = clock.monotonic()
            hub.shop.services.feed.stop()
            names = [(await follower.next())[0]]
            assert names == ["stopping"]
            assert clock.monotonic() - begun < 2


@pytest.fixture
async def till(hub: ServedHub) -> Credential:
    return await hub.pair()
