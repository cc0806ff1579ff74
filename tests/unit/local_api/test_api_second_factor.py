"""The second factor of those who run the shop (domain D04): RFC 6238, each code once, offline, recovery on paper."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from hubd.runtime import Runtime, SystemIds
from hubd.services.pins import TRIES_BEFORE_LOCK
from hubd.services.totp import STEP_S, find_step, totp
from tests.unit.clocks import JumpingClock
from tests.unit.local_api.counter import OWNER_PIN, Counter, counter
from tests.unit.services.shop import BOOT, LOCATION, shop_runtime

SETTING = "/v1/settings/access.second_factor"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    """RFC 6238 appendix B, SHA-1."""
    assert totp(b"12345678901234567890", seconds // STEP_S, digits=8) == code


def test_a_code_counts_one_step_to_either_side_and_never_before_one_that_was_taken() -> None:
    secret = b"12345678901234567890"
    for late, found in ((-2, False), (-1, True), (0, True), (1, True), (2, False)):
        step = find_step(secret, totp(secret, 1000), (1000 + late) * STEP_S, -1)
        assert (step == 1000) is found, late
    assert find_step(secret, totp(secret, 1000), 1000 * STEP_S, 1000) is None


class Doubtful(JumpingClock):
    """A clock whose witness can go."""

    sure = True

    def trusted(self) -> bool:
        return self.sure


class Person:
    """The owner with his phone."""

    def __init__(self, shop: Counter, staff: str, clock: Doubtful) -> None:
        self.shop, self.staff, self.clock = shop, staff, clock
        self.secret = b""
        self.paper: list[str] = []

    def code(self) -> str:
        """What the phone shows, half a minute after the last one."""
        self.clock.ahead_s += STEP_S
        return totp(self.secret, self.clock.now_us() // 1_000_000 // STEP_S)

    async def sign_in(self, code: str = "", at: httpx2.AsyncClient | None = None) -> httpx2.Response:
        body = {"staff": self.staff, "pin": OWNER_PIN, "code": code}
        return await (at or self.shop.client()).post("/v1/sessions", json=body)

    async def enrol(self, page: httpx2.AsyncClient) -> httpx2.Response:
        begun = (await page.post("/v1/second-factor")).json()
        assert parse_qs(urlsplit(begun["uri"]).query)["secret"] == [begun["secret"]]
        self.secret = base64.b32decode(begun["secret"])
        answer = await page.post("/v1/second-factor/confirm", json={"code": self.code()})
        self.paper = answer.json().get("recovery_codes", [])
        return answer

    def page(self, signed: httpx2.Response) -> httpx2.AsyncClient:
        return self.shop.client(cookie=signed.headers["set-cookie"].partition(";")[0])


async def ask_everybody(page: httpx2.AsyncClient) -> httpx2.Response:
    """Switch the setting on."""
    etag = (await page.get(SETTING)).headers["etag"]
    return await page.put(SETTING, json={"value": True}, headers={"if-match": etag})


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def doubtful() -> tuple[Doubtful, Runtime]:
    clock = Doubtful()
    return clock, Runtime(clock, SystemIds(), shop_runtime().rng, BOOT, b"1-process")


def held_documents(folder: Path) -> list[bytes]:
    """Every document whose bytes lie in the store."""
    held = sqlite3.connect(next(folder.rglob("*.db")))
    documents = [row[0] for row in held.execute("SELECT content FROM documents WHERE content IS NOT NULL")]
    held.close()
    return documents


async def test_a_back_office_login_without_second_factor_is_refused_d04(tmp_path: Path) -> None:
    """D04: refused without it; each code of the phone once, over a restart too; nothing of it in the journal."""
    clock, runtime = doubtful()
    async with counter(tmp_path, runtime) as shop:
        owner = Person(shop, await shop.owner(), clock)
        page = owner.page(await owner.sign_in())
        assert code_of(await ask_everybody(page)) == (409, "second_factor.nobody_enrolled")
        assert (await owner.enrol(page)).status_code == 200
        assert len(set(owner.paper)) == 10
        assert (await ask_everybody(page)).status_code == 200, "the session that enrolled has proved it"
        assert code_of(await owner.sign_in()) == (401, "second_factor.needed")
        assert code_of(await owner.sign_in("000000")) == (401, "second_factor.code_wrong")
        used = owner.code()
        signed = await owner.sign_in(used)
        assert signed.status_code == 201, signed.text
        assert (await owner.page(signed).get("/v1/journal")).status_code == 200
        assert code_of(await owner.sign_in(used)) == (401, "second_factor.code_wrong"), "each code counts once"
        journal = str(await shop.entries())
        for secret in (base64.b32encode(owner.secret).decode(), used, *owner.paper):
            assert secret not in journal
    async with counter(tmp_path, runtime) as shop:
        owner.shop = shop
        assert code_of(await owner.sign_in(used)) == (401, "second_factor.code_wrong"), "after a restart too"
        assert (await owner.sign_in(owner.code())).status_code == 201


async def test_who_has_none_may_enrol_and_do_nothing_else_once_it_is_asked_d04(tmp_path: Path) -> None:
    """D04: a manager is led to enrolling; a cashier is asked for nothing; the administrator takes one away."""
    clock, runtime = doubtful()
    async with counter(tmp_path, runtime) as shop:
        owner = Person(shop, await shop.owner(), clock)
        page = owner.page(await owner.sign_in())
        await owner.enrol(page)
        await ask_everybody(page)
        marc = shop.new_id()
        body = {"name": "Marc", "pin": OWNER_PIN, "roles": [{"role": "manager", "location": LOCATION}]}
        assert (await shop.administrator().put(f"/v1/staff/{marc}", json=body)).status_code == 200
        manager = Person(shop, marc, clock)
        signed = await manager.sign_in()
        assert (signed.status_code, signed.json()["enrol"], signed.json()["permissions"]) == (201, True, [])
        waiting = manager.page(signed)
        for path in ("/v1/journal", "/v1/devices", "/v1/payments", "/v1/settings"):
            assert (await waiting.get(path)).status_code == 403, path
        assert (await manager.enrol(waiting)).status_code == 200
        assert (await waiting.get("/v1/journal")).status_code == 200
        body |= {"name": "Ann", "roles": [{"role": "cashier", "location": LOCATION}]}
        assert (await shop.administrator().put(f"/v1/staff/{(ann := shop.new_id())}", json=body)).status_code == 200
        assert (await Person(shop, ann, clock).sign_in()).json()["enrol"] is False
        gone = await shop.administrator().delete(f"/v1/staff/{marc}/second-factor")
        assert gone.status_code == 204
        assert (await waiting.get("/v1/journal")).status_code == 200, "the session had proved it"
        assert (await manager.sign_in()).json()["enrol"] is True
        kinds = [one["kind"] for one in await shop.entries() if "second_factor" in one["kind"]]
        assert kinds == ["staff.second_factor_confirmed"] * 2 + ["staff.second_factor_reset"]
    documents = held_documents(tmp_path)
    secrets = [base64.b32encode(one.secret) for one in (owner, manager)]
    assert [any(secret in text for text in documents) for secret in secrets] == [True, False]


async def test_at_a_till_the_pin_alone_opens_the_counter_and_nothing_behind_it_d04(tmp_path: Path) -> None:
    """D04: acts at the counter take the PIN alone, the paired till being there; a code opens the rest."""
    clock, runtime = doubtful()
    async with counter(tmp_path, runtime) as shop:
        owner = Person(shop, await shop.owner(), clock)
        till = await shop.till()
        await owner.enrol(owner.page(await owner.sign_in()))
        session = (await owner.sign_in(at=till)).json()
        signed_in = {"hub-session": session["token"]}
        assert "payments.refund" in session["permissions"]
        assert "staff.manage" not in session["permissions"]
        assert code_of(await till.get("/v1/journal", headers=signed_in)) == (403, "access.not_allowed")
        again = await till.post("/v1/second-factor", headers=signed_in)
        assert code_of(again) == (401, "second_factor.needed"), "who knows the PIN alone enrols no other phone"
        session = (await owner.sign_in(owner.code(), at=till)).json()
        assert (await till.get("/v1/journal", headers={"hub-session": session["token"]})).status_code == 200


async def test_a_recovery_code_opens_while_the_clock_is_uncertain_and_works_once_d04(tmp_path: Path) -> None:
    """D04: works offline; guesses are counted like PINs, over a restart too."""
    clock, runtime = doubtful()
    async with counter(tmp_path, runtime) as shop:
        owner = Person(shop, await shop.owner(), clock)
        await owner.enrol(owner.page(await owner.sign_in()))
        clock.sure = False
        assert code_of(await owner.sign_in(owner.code())) == (401, "second_factor.clock_uncertain")
        for typed in (owner.paper[0], owner.paper[1].lower().replace("-", " ")):
            assert (await owner.sign_in(typed)).status_code == 201
            assert code_of(await owner.sign_in(typed)) == (401, "second_factor.code_wrong")
        clock.sure = True
        for _ in range(TRIES_BEFORE_LOCK - 1):
            assert code_of(await owner.sign_in("000000")) == (401, "second_factor.code_wrong")
        assert code_of(await owner.sign_in(owner.paper[2])) == (429, "pin_locked")
    async with counter(tmp_path, runtime) as shop:
        owner.shop = shop
        assert code_of(await owner.sign_in(owner.paper[2])) == (429, "pin_locked")
