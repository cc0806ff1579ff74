"""Who may come in: pairing with a person, PINs with a lock, sessions, browsers with keys and origins, tickets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hubd.errors import AccessError, HubError
from hubd.services.access import SESSION_IDLE_S, SESSION_LONGEST_S
from hubd.services.pairing import WRONG_CODES_MAX, comparison_number
from hubd.services.pins import TRIES_BEFORE_LOCK, lock_seconds
from hubd.store.sealed import read_recovery_code
from local_api.gate import Listener
from local_api.tickets import TICKET_LIFE_S
from tests.unit.clocks import JumpingClock
from tests.unit.local_api.counter import FINGERPRINT, NAME, OWNER_PIN, Counter, cash, counter
from tests.unit.services.shop import LOCATION, shop_runtime

ORIGIN = "https://till.example.com"


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_person_confirms_what_stands_on_both_screens(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        administrator, device = shop.administrator(), shop.client()
        opened = (await administrator.post("/v1/pairing-codes", json={"kind": "till"})).json()
        assert len(opened["code"]) == 8
        assert opened["qr"].startswith("hubd://pair?")
        wanted = {"id": shop.new_id(), "code": opened["code"].lower(), "name": "Till 1"}
        waiting = await device.post("/v1/pairings", json=wanted)
        assert (waiting.status_code, waiting.json()["state"]) == (202, "waiting")
        assert waiting.json()["number"] == comparison_number(FINGERPRINT, opened["code"], wanted["id"])
        [shown] = (await administrator.get("/v1/pairing-codes")).json()["items"]
        assert (shown["name"], shown["number"], shown["code"]) == ("Till 1", waiting.json()["number"], None)
        assert "token" not in (await device.post("/v1/pairings", json=wanted)).text.replace('"token":null', "")
        # Somebody else with the same code is too late, and is told so.
        other = wanted | {"id": shop.new_id()}
        assert code_of(await device.post("/v1/pairings", json=other)) == (409, "pairing.code_used")
        for _ in range(2):
            confirmed = await administrator.post(f"/v1/pairing-codes/{opened['id']}/confirm")
            assert (confirmed.status_code, confirmed.json()["state"]) == (200, "confirmed")
        # A lost answer is asked for again: the same token, and one device.
        tokens = {(await device.post("/v1/pairings", json=wanted)).json()["token"] for _ in range(2)}
        assert len(tokens) == 1
        paired = [entry for entry in await shop.entries() if entry["kind"] == "device.paired"]
        assert len(paired) == 1
        token = tokens.pop()
        assert token not in str(paired)
        assert "token_sha256" not in paired[0]["body"]


async def test_wrong_codes_stop_who_sends_them_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with counter(tmp_path) as shop:
        administrator = shop.administrator()
        waiting, device, stranger = (shop.client(address=f"192.168.1.{last}") for last in (21, 22, 66))
        codes = [(await administrator.post("/v1/pairing-codes", json={})).json()["code"] for _ in range(3)]
        known = {"id": shop.new_id(), "code": codes[0], "name": "Till 1"}
        assert (await waiting.post("/v1/pairings", json=known)).status_code == 202
        for _ in range(WRONG_CODES_MAX):
            body = {"id": shop.new_id(), "code": "00000000", "name": "Thief"}
            assert code_of(await stranger.post("/v1/pairings", json=body)) == (403, "pairing.code_wrong")
        body = {"id": shop.new_id(), "code": codes[1], "name": "Thief"}
        locked = await stranger.post("/v1/pairings", json=body)
        assert code_of(locked) == (429, "pairing.too_many_tries"), "a right guess is not told from a wrong one now"
        assert 0 < int(locked.headers["retry-after"]) <= 61
        assert (await stranger.post("/v1/pairings", json=known)).status_code == 202, "a repetition is no guess"
        good = {"id": shop.new_id(), "code": codes[1], "name": "Till 2"}
        assert (await device.post("/v1/pairings", json=good)).status_code == 202, "the open codes are still good"
        monkeypatch.setattr("hubd.services.pairing.WRONG_CODE_COUNTS_S", 0)
        later = {"id": shop.new_id(), "code": codes[2], "name": "Till 3"}
        assert (await stranger.post("/v1/pairings", json=later)).status_code == 202, "after a minute it may try again"


async def test_codes_end_after_ten_minutes(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        administrator, device = shop.administrator(), shop.client()
        body = {"id": shop.new_id(), "code": "", "name": "Till"}
        opened = (await administrator.post("/v1/pairing-codes", json={})).json()
        desk = shop.shop.services.pairing
        desk._pairings[opened["id"]].ends = shop.shop.services.runtime.clock.monotonic()
        assert code_of(await device.post("/v1/pairings", json=body | {"code": opened["code"]})) == (
            403,
            "pairing.code_wrong",
        )
        refused = (await administrator.post("/v1/pairing-codes", json={})).json()
        body["code"] = refused["code"]
        await device.post("/v1/pairings", json=body)
        await administrator.post(f"/v1/pairing-codes/{refused['id']}/refuse")
        assert code_of(await device.post("/v1/pairings", json=body)) == (403, "pairing.refused")


async def test_a_viewer_looks_and_takes_nothing(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        paired = await shop.pair("Claire's phone", kind="viewer")
        phone = shop.client(authorization=f"Bearer {paired['token']}")
        assert (await phone.get("/v1/outages")).status_code == 200
        assert code_of(await phone.put(f"/v1/payments/{shop.new_id()}", json=cash())) == (403, "access.not_allowed")
        assert code_of(await phone.get("/v1/staff")) == (403, "access.not_allowed")


async def test_a_wrong_pin_locks_the_person_at_that_device_even_over_a_restart(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        owner = await shop.owner()
        till, other = await shop.till("Till 1"), await shop.till("Till 2")
        wrong, right = {"staff": owner, "pin": "1357"}, {"staff": owner, "pin": OWNER_PIN}
        for _ in range(TRIES_BEFORE_LOCK):
            assert code_of(await till.post("/v1/sessions", json=wrong)) == (401, "pin_wrong")
        locked = await till.post("/v1/sessions", json=right)
        assert code_of(locked) == (429, "pin_locked")
        assert 0 < int(locked.headers["retry-after"]) <= 61
        assert (await other.post("/v1/sessions", json=right)).status_code == 201
        token = till.headers["authorization"]
    async with counter(tmp_path) as shop:
        till = shop.client(authorization=token)
        assert code_of(await till.post("/v1/sessions", json=right)) == (429, "pin_locked")
    assert [lock_seconds(count) for count in (4, 5, 6, 7, 40)] == [0, 60, 120, 240, 3600]


async def test_wrong_pins_at_the_same_moment_share_the_five_tries(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        owner, access = await shop.owner(), shop.shop.services.access

        async def guess(staff: str, pin: str) -> str:
            try:
                await access.sign_in(staff, pin, device=None)
            except HubError as error:
                return error.code
            return "in"

        found = await asyncio.gather(*(guess(owner, f"13{number:02}") for number in range(50)))
        assert (found.count("pin_wrong"), found.count("pin_locked")) == (TRIES_BEFORE_LOCK, 50 - TRIES_BEFORE_LOCK)
        assert await guess(owner, OWNER_PIN) == "pin_locked"
        await access.guard.forgive(owner)
        for _ in range(2):  # four wrong ones and a right one lock nobody, and leave no count behind
            assert [await guess(owner, pin) for pin in ("1357", "1358", "1359", "1360", OWNER_PIN)] == [
                *["pin_wrong"] * 4,
                "in",
            ]
        made_up = [await guess(shop.new_id(), "1357") for _ in range(TRIES_BEFORE_LOCK + 1)]
        assert made_up == [*["pin_wrong"] * TRIES_BEFORE_LOCK, "pin_locked"], "ids that nobody has share one count"


async def test_a_try_that_was_not_verified_is_given_back(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        guard = shop.shop.services.access.guard
        for _ in range(TRIES_BEFORE_LOCK * 2):
            guard.reserve("somebody@page")
            guard.give_back("somebody@page")
        for _ in range(TRIES_BEFORE_LOCK):
            guard.reserve("somebody@page")
        with pytest.raises(AccessError, match="too often"):
            guard.reserve("somebody@page")


async def test_a_session_belongs_to_its_device_and_ends_when_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with counter(tmp_path) as shop:
        owner = await shop.owner()
        till, other = await shop.till("Till 1"), await shop.till("Till 2")
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        signed_in = {"hub-session": session["token"]}
        assert session["name"] == "Claire"
        assert (await till.get("/v1/journal", headers=signed_in)).status_code == 200
        assert code_of(await other.get("/v1/journal", headers=signed_in)) == (401, "access.session_over")
        monkeypatch.setattr("hubd.services.access.SESSION_IDLE_S", -1)
        assert code_of(await till.get("/v1/journal", headers=signed_in)) == (401, "access.session_over")
        monkeypatch.undo()
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        assert (await till.delete("/v1/sessions", headers={"hub-session": session["token"]})).status_code == 204
        gone = await till.get("/v1/journal", headers={"hub-session": session["token"]})
        assert code_of(gone) == (401, "access.session_over")


async def test_who_only_follows_is_out_at_both_limits_of_the_session(tmp_path: Path) -> None:
    clock = JumpingClock()
    async with counter(tmp_path, shop_runtime(clock=clock)) as shop:
        owner, access = await shop.owner(), shop.shop.services.access
        session = await access.sign_in(owner, OWNER_PIN, device=None)
        follower = await access.caller(None, session.token)
        clock.ahead_s += SESSION_IDLE_S - 60
        assert await access.is_current(follower)
        clock.ahead_s += 61
        assert (await access.is_current(follower), access.is_surely_current(follower)) == (False, False)

        session = await access.sign_in(owner, OWNER_PIN, device=None)
        step = SESSION_IDLE_S - 300
        for _ in range(SESSION_LONGEST_S // step - 1):
            clock.ahead_s += step
            follower = await access.caller(None, session.token)
        assert await access.is_current(follower)
        clock.ahead_s += step + 1
        assert not await access.is_current(follower), "however busy the person was meanwhile"


async def test_the_page_has_a_cookie_of_its_own_origin_and_no_other_page_can_use_it(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        owner = await shop.owner()
        page = shop.client()
        answer = await page.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})
        assert answer.json()["token"] is None
        cookie = answer.headers["set-cookie"]
        assert "Secure; HttpOnly; SameSite=Strict" in cookie
        value = {"cookie": cookie.partition(";")[0]}
        fresh = shop.client(cookie=value["cookie"])
        assert (await fresh.get("/v1/staff")).status_code == 200
        assert (await fresh.get("/v1/staff", headers={"origin": f"https://{NAME}"})).status_code == 200
        assert code_of(await fresh.get("/v1/staff", headers={"origin": ORIGIN})) == (403, "access.foreign_origin")
        assert code_of(await fresh.get("/v1/staff", headers={"sec-fetch-site": "cross-site"})) == (
            401,
            "access.not_signed_in",
        )


async def test_host_and_origin_are_checked_at_every_door_of_tcp(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        signed_in = await shop.client().post("/v1/sessions", json={"staff": await shop.owner(), "pin": OWNER_PIN})
        cookie = signed_in.headers["set-cookie"].partition(";")[0]
        for door, scheme, other in ((Listener.TLS, "https", "http"), (Listener.LOOPBACK, "http", "https")):
            page = shop.client(door, cookie=cookie)
            for own in ({}, {"origin": f"{scheme}://{NAME}"}, {"sec-fetch-site": "same-origin"}):
                assert (await page.get("/v1/staff", headers=own)).status_code == 200, (door, own)
            for host in ("evil.example", "evil.example:8080", "", f"{NAME}.evil.example", "127.0.0.1.evil.example"):
                for path in ("/v1/staff", "/v1/hub", "/healthz", "/nowhere"):
                    rebound = await page.get(path, headers={"host": host})
                    assert code_of(rebound) == (403, "access.foreign_host"), (door, host, path)
            for origin in (ORIGIN, f"{other}://{NAME}", f"{scheme}://{NAME}:9", "null"):
                foreign = await page.get("/v1/staff", headers={"origin": origin})
                assert code_of(foreign) == (403, "access.foreign_origin"), (door, origin)
                assert "access-control-allow-origin" not in foreign.headers
            for site in ("cross-site", "same-site"):
                stranger = await page.get("/v1/staff", headers={"sec-fetch-site": site})
                assert code_of(stranger) == (401, "access.not_signed_in"), (door, site)


async def test_set_up_needs_the_machine_or_its_code_and_happens_once(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        body = {
            "owner": {"id": shop.new_id(), "name": "Claire", "pin": OWNER_PIN},
            "location": {"id": LOCATION, "name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"},
        }
        stranger, administrator = shop.client(), shop.administrator()
        assert (await stranger.get("/v1/setup")).json() == {"done": False, "code": None, "recovery_code": None}
        assert code_of(await stranger.post("/v1/setup", json=body)) == (403, "setup.code_wrong")
        code = (await administrator.get("/v1/setup")).json()["code"]
        for weak in ("1234", "0000", "9876"):
            easy = {**body, "owner": {**body["owner"], "pin": weak}, "code": code}
            assert code_of(await stranger.post("/v1/setup", json=easy)) == (422, "weak_pin")
        done = await stranger.post("/v1/setup", json={**body, "code": code})
        assert done.status_code == 201, done.text
        assert done.json()["recovery_code"]
        again = await administrator.post("/v1/setup", json=body)
        assert (again.status_code, again.json()) == (201, done.json()), "an answer that was lost is given again"
        for other in ({"pin": "739182"}, {"name": "Clara"}, {"id": shop.new_id()}):
            differs = {**body, "owner": {**body["owner"], **other}}
            assert code_of(await administrator.post("/v1/setup", json=differs)) == (409, "setup.done")
        journal = str(await shop.entries())
        for secret in ("Claire", OWNER_PIN, "scrypt", done.json()["recovery_code"]):
            assert secret not in journal


async def test_the_recovery_code_is_told_to_the_owner_alone_until_somebody_has_it_on_paper(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        owner, till, administrator = await shop.owner(), await shop.till(), shop.administrator()
        manager = {"name": "Marc", "pin": "482915", "roles": [{"role": "manager", "location": LOCATION}]}
        await administrator.put(f"/v1/staff/{(marc := shop.new_id())}", json=manager)
        pages = {}
        for staff, pin in ((owner, OWNER_PIN), (marc, "482915")):
            answer = await shop.client().post("/v1/sessions", json={"staff": staff, "pin": pin})
            pages[staff] = shop.client(cookie=answer.headers["set-cookie"].partition(";")[0])
        for caller in (shop.client(), till, pages[marc]):
            for method, path in (("GET", ""), ("POST", ""), ("POST", "/confirm")):
                body = {"id": "0" * 16} if path else None
                refused = await caller.request(method, f"/v1/recovery-code{path}", json=body)
                assert refused.status_code in {401, 403}, refused.text
        told = (await pages[owner].get("/v1/recovery-code")).json()
        assert read_recovery_code(told["code"])
        assert (await administrator.get("/v1/recovery-code")).json() == told, "the same code, as often as it is asked"
        assert (await administrator.post("/v1/recovery-code")).json() == told, "what is not lost is not replaced"
        other = await pages[owner].post("/v1/recovery-code/confirm", json={"id": "0" * 16})
        assert code_of(other) == (409, "recovery.other_code")
        for _ in range(2):
            assert (await pages[owner].post("/v1/recovery-code/confirm", json={"id": told["id"]})).status_code == 204
        for answer in (await administrator.get("/v1/recovery-code"), await administrator.post("/v1/recovery-code")):
            assert answer.json() == {"confirmed": True, "id": None, "code": None}
        problems = (await administrator.get("/v1/problems")).json()["items"]
        assert "backup.code_unconfirmed" not in [problem["code"] for problem in problems]


async def test_a_manager_gives_no_more_than_he_has_and_the_last_owner_stays(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        owner, till, administrator = await shop.owner(), await shop.till(), shop.administrator()
        manager = shop.new_id()
        body = {"name": "Marc", "pin": "482915", "roles": [{"role": "manager", "location": LOCATION}]}
        assert (await administrator.put(f"/v1/staff/{manager}", json=body)).status_code == 200
        session = (await till.post("/v1/sessions", json={"staff": manager, "pin": "482915"})).json()
        signed_in = {"hub-session": session["token"]}
        crown = await till.post(f"/v1/staff/{manager}/grants", json={"role": "owner"}, headers=signed_in)
        assert code_of(crown) == (403, "access.not_allowed")
        assert code_of(await till.delete(f"/v1/staff/{owner}", headers=signed_in)) == (403, "access.not_allowed")
        last = await administrator.delete(f"/v1/staff/{owner}")
        assert (last.status_code, last.json()["code"]) == (409, "last_owner")
        assert (await administrator.delete(f"/v1/staff/{manager}")).status_code == 204
        assert code_of(await till.get("/v1/journal", headers=signed_in)) == (403, "access.not_allowed")
        assert [one["id"] for one in (await administrator.get("/v1/staff")).json()["items"]] == [owner]


class Browser:
    """A till in a browser: a key that never leaves it, an origin, a counter."""

    def __init__(self, shop: Counter) -> None:
        self.shop = shop
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.device = ""
        self.counter = 0
        self.client = shop.client(origin=ORIGIN)

    @property
    def public_key(self) -> str:
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(spki).decode()

    def signed(
        self, method: str, path: str, body: bytes = b"", counter: int | None = None, query: str = ""
    ) -> dict[str, str]:
        self.counter += 1
        start = self.shop.shop.services.runtime.start_id
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        covered = '("@method" "@path" "@query" "content-digest")'
        used = self.counter if counter is None else counter
        params = f'{covered};keyid="{self.device}";alg="ecdsa-p256-sha256";nonce="{start}-{used}"'
        base = (
            f'"@method": {method}\n"@path": {path}\n"@query": ?{query}\n"content-digest": {digest}\n'
            f'"@signature-params": {params}'
        )
        r, s = decode_dss_signature(self.key.sign(base.encode(), ec.ECDSA(SHA256())))
        raw = base64.b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).decode()
        return {
            "content-digest": digest,
            "signature-input": f"sig1={params}",
            "signature": f"sig1=:{raw}:",
            "content-type": "application/json",
        }


async def test_a_browser_signs_what_it_asks_and_no_request_is_good_twice(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        browser = Browser(shop)
        paired = await shop.pair("Web till", origin=ORIGIN, public_key=browser.public_key)
        assert paired["token"] is None, "a browser with a key gets no token to lose"
        browser.device = paired["device"]
        path = f"/v1/payments/{shop.new_id()}"
        body = b'{"amount":{"amount":1250,"currency":"EUR"},"tender":"cash"}'
        headers = browser.signed("PUT", path, body)
        answer = await browser.client.put(path, content=body, headers=headers)
        assert answer.status_code == 201, answer.text
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "Hub-Line" in answer.headers["access-control-expose-headers"]
        assert code_of(await browser.client.put(path, content=body, headers=headers)) == (401, "access.stale_signature")
        other = body.replace(b"1250", b"9999")
        forged = browser.signed("PUT", path, body)
        assert code_of(await browser.client.put(path, content=other, headers=forged)) == (401, "access.bad_signature")
        for method, where in (("GET", "/v1/orders"), ("POST", "/v1/payments")):
            wrong = browser.signed(method, where)
            assert code_of(await browser.client.get("/v1/payments", headers=wrong)) == (401, "access.bad_signature")
        thief = shop.client(origin="https://evil.example")
        stolen = browser.signed("GET", "/v1/payments")
        assert code_of(await thief.get("/v1/payments", headers=stolen)) == (403, "access.foreign_origin")
        # Requests may overtake each other, a counter far behind is dead.
        for number in (900, 850):
            late = browser.signed("GET", "/v1/payments", counter=number)
            assert (await browser.client.get("/v1/payments", headers=late)).status_code == 200
        dead = browser.signed("GET", "/v1/payments", counter=700)
        assert code_of(await browser.client.get("/v1/payments", headers=dead)) == (401, "access.stale_signature")


async def test_signatures_of_before_a_restart_are_worth_nothing(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        browser = Browser(shop)
        browser.device = (await shop.pair("Web till", origin=ORIGIN, public_key=browser.public_key))["device"]
        recorded = browser.signed("GET", "/v1/payments")
    async with counter(tmp_path, shop_runtime(b"2-process")) as shop:
        client = shop.client(origin=ORIGIN)
        assert code_of(await client.get("/v1/payments", headers=recorded)) == (401, "access.stale_signature")


async def test_preflights_are_answered_for_paired_origins_alone(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        asks = {
            "origin": ORIGIN,
            "access-control-request-method": "PUT",
            "access-control-request-private-network": "true",
        }
        stranger = shop.client()
        path = f"/v1/payments/{shop.new_id()}"
        assert code_of(await stranger.options(path, headers=asks)) == (403, "access.foreign_origin")
        pairing = await stranger.options("/v1/pairings", headers=asks | {"access-control-request-method": "POST"})
        assert (pairing.status_code, pairing.headers["access-control-allow-origin"]) == (204, ORIGIN)
        await shop.pair("Web till", origin=ORIGIN)
        allowed = await stranger.options(path, headers=asks)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == ORIGIN
        assert allowed.headers["access-control-allow-private-network"] == "true"
        assert "access-control-allow-credentials" not in allowed.headers
        assert code_of(await stranger.options(path, headers=asks | {"origin": "https://evil.example"})) == (
            403,
            "access.foreign_origin",
        )


async def test_a_body_cannot_claim_another_origin_than_its_page(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        opened = (await shop.administrator().post("/v1/pairing-codes", json={})).json()
        body = {"id": shop.new_id(), "code": opened["code"], "name": "Till", "origin": ORIGIN}
        evil = shop.client(origin="https://evil.example")
        assert code_of(await evil.post("/v1/pairings", json=body)) == (403, "access.foreign_origin")
        plain = {**body, "origin": "http://till.example.com"}
        answer = await shop.client(origin="http://till.example.com").post("/v1/pairings", json=plain)
        assert code_of(answer) == (422, "invalid_origin")


async def test_a_ticket_is_good_once_and_for_thirty_seconds(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till, stranger = await shop.till(), shop.client()
        assert TICKET_LIFE_S == 30
        ticket = (await till.post("/v1/events/ticket")).json()["ticket"]
        shop.shop.services.feed.stop()  # the stream then says `stopping` and ends
        answer = await stranger.get(f"/v1/events?ticket={ticket}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert "event: stopping" in answer.text
        assert code_of(await stranger.get(f"/v1/events?ticket={ticket}")) == (401, "access.ticket_over")
        assert code_of(await stranger.get(f"/v1/payments?ticket={ticket}")) == (401, "access.not_signed_in")


async def test_the_unix_socket_is_the_administrator_and_no_other_door_is(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        assert (await shop.administrator().get("/v1/staff")).status_code == 200
        for door in (Listener.TLS, Listener.LOOPBACK):
            assert code_of(await shop.client(door).get("/v1/staff")) == (401, "access.not_signed_in")


async def test_settings_are_changed_on_the_version_that_was_read(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        administrator = shop.administrator()
        read = await administrator.get("/v1/settings/store.name")
        body: dict[str, Any] = {"value": "Librairie"}
        assert code_of(await administrator.put("/v1/settings/store.name", json=body)) == (428, "if_match_missing")
        match = {"if-match": read.headers["etag"]}
        changed = await administrator.put("/v1/settings/store.name", json=body, headers=match)
        assert (changed.status_code, changed.json()["value"]) == (200, "Librairie")
        assert changed.headers["etag"] != read.headers["etag"]
        again = await administrator.put("/v1/settings/store.name", json=body, headers=match)
        assert code_of(again) == (412, "changed_meanwhile")
        fresh = {"if-match": changed.headers["etag"]}
        later = {"value": "Bouquiniste", "effective_from": "2040-01-01T00:00:00+00:00"}
        planned = await administrator.put("/v1/settings/store.name", json=later, headers=fresh)
        assert (planned.status_code, planned.json()["value"]) == (200, "Librairie"), "it counts later"
        unseen = await administrator.put("/v1/settings/store.name", json=later | {"value": "x"}, headers=fresh)
        assert code_of(unseen) == (412, "changed_meanwhile"), "a plan that the second has not seen is not passed over"
        assert code_of(await administrator.get("/v1/settings/no.such")) == (404, "unknown_setting")
        assert len((await administrator.get("/v1/policies")).json()["items"]) >= 1
