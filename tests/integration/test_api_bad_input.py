"""What comes in wrong: a problem document with a code, no trace in the journal, nothing of it in any log."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hubd.store import backup, sealed
from hubd.store.backup import Contents
from hubd.store.sealed import Recipient
from local_api import gate
from local_api.client import Credential, new_id
from local_api.client.trust import pinned_context
from tests.rigs.api import ServedHub

MARK = "Zyx9ConfidentialMark"
"""Stands in every bad body; it must be found nowhere afterwards."""
CARD = "4111 1111 1111 1111"
GOOD: dict[str, Any] = {"amount": {"amount": 1250, "currency": "EUR"}, "tender": "cash"}


def _with(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


BAD_BODIES: list[tuple[str, bytes, int, str]] = [
    ("malformed JSON", b'{"amount": {"amount": 1250, ' + MARK.encode(), 400, "malformed_json"),
    ("not UTF-8", b'{"amount": "\xff\xfe ' + MARK.encode() + b'"}', 400, "malformed_json"),
    ("empty body", b"", 400, "malformed_json"),
    ("a list", b'["' + MARK.encode() + b'"]', 422, "invalid_field"),
    ("deep nesting", b"[" * 30_000, 400, "malformed_json"),
    ("wrong exponent", _with(amount={"amount": 1250, "currency": "JPY", "exponent": 2}), 422, "wrong_exponent"),
    ("fraction", b'{"amount": {"amount": 12.50, "currency": "EUR"}, "tender": "cash"}', 422, "invalid_field"),
    ("amount as text", _with(amount={"amount": MARK, "currency": "EUR"}), 422, "invalid_field"),
    ("negative", _with(amount={"amount": -1250, "currency": "EUR"}), 422, "amount_not_positive"),
    ("zero", _with(amount={"amount": 0, "currency": "EUR"}), 422, "amount_not_positive"),
    ("huge", _with(amount={"amount": 10**13, "currency": "EUR"}), 422, "amount_out_of_range"),
    ("beyond 64 bits", b'{"amount": {"amount": 1' + b"0" * 40 + b', "currency": "EUR"}}', 422, "amount_out_of_range"),
    ("not a number", b'{"amount": {"amount": NaN, "currency": "EUR"}}', 400, "malformed_json"),
    ("unknown currency", _with(amount={"amount": 1250, "currency": "EUX"}), 422, "unknown_currency"),
    ("unknown field", _with(**{MARK: 1}), 422, "unknown_field"),
    ("unknown field inside", _with(amount={"amount": 1, "currency": "EUR", "note": MARK}), 422, "unknown_field"),
    (
        "a field twice",
        b'{"amount": {"amount": 1250, "currency": "EUR"}, "tender": "card", "tender": "cash"}',
        400,
        "malformed_request",
    ),
    ("a field twice inside", b'{"amount": {"amount": 1, "amount": 1250, "currency": "EUR"}}', 400, "malformed_request"),
    (
        "a field twice, escaped",
        b'{"amount": {"amount": 1250, "currency": "EUR"}, "tip": 0, "\\u0074ip": 0}',
        400,
        "malformed_request",
    ),
    ("missing field", b'{"tender": "cash"}', 422, "missing_field"),
    ("unknown tender", _with(tender=MARK), 422, "invalid_field"),
    ("wrong order id", _with(order="0" * 36), 422, "invalid_id"),
    ("unknown order", _with(order="01890000-0000-7000-8000-00000000dead"), 404, "order_unknown"),
    ("tip too large", _with(tip=-5), 422, "amount_out_of_range"),
    ("rounded down to a cent", _with(rounding=-1249), 422, "rounding_out_of_range"),
    ("rounded up", _with(rounding=6), 422, "rounding_out_of_range"),
    ("a card rounded", _with(tender="card", rounding=-1), 422, "rounding_out_of_range"),
    ("rounded to nothing", _with(amount={"amount": 3, "currency": "EUR"}, rounding=-3), 422, "rounding_out_of_range"),
    ("training for cash", _with(mode="training"), 422, "mode_not_available"),
    ("a test on a terminal", _with(mode="test", tender="card"), 422, "mode_not_available"),
    ("method of the other tender", _with(method="chip"), 422, "method_mismatch"),
    ("card number in an unknown field", _with(note=f"card {CARD}"), 422, "card_data_refused"),
    ("card number as a key", _with(**{"4111111111111111": MARK}), 422, "card_data_refused"),
    ("card number in broken JSON", b'{"pan": "4111111111111111", ', 422, "card_data_refused"),
    ("card number as a number", _with(pan=4111111111111111), 422, "card_data_refused"),
    (
        "track in a reason",
        _with(override={"reason": ";4111111111111111=25121010000000000000?"}),
        422,
        "card_data_refused",
    ),
    ("deep nesting in a field", _with(note=None)[:-5] + b"[" * 20_000 + b"]" * 20_000 + b"}", 400, "malformed_json"),
    ("deep nesting of a known field", b'{"override": ' * 4_000 + b"1" + b"}" * 4_000, 400, "malformed_json"),
    ("infinity", b'{"amount": {"amount": -Infinity, "currency": "EUR"}}', 400, "malformed_json"),
    ("beyond a float", b'{"amount": {"amount": 1e400, "currency": "EUR"}}', 400, "malformed_json"),
    (
        "a float that is whole",
        b'{"amount": {"amount": 1e3, "currency": "EUR"}, "tender": "cash"}',
        422,
        "invalid_field",
    ),
    ("50,000 digits", b'{"amount": {"amount": ' + b"9" * 50_000 + b', "currency": "EUR"}}', 400, "malformed_json"),
    ("a truth for an amount", b'{"amount": {"amount": true, "currency": "EUR"}}', 422, "invalid_field"),
    ("a leading zero", b'{"amount": {"amount": 01250, "currency": "EUR"}}', 400, "malformed_json"),
    ("half a surrogate", _with(override={"reason": "\ud800" + MARK}), 400, "malformed_json"),
    ("half a surrogate as bytes", b'{"tender": "\xed\xa0\x80' + MARK.encode() + b'"}', 400, "malformed_json"),
    ("overlong UTF-8", b'{"tender": "\xc0\xaf' + MARK.encode() + b'"}', 400, "malformed_json"),
    ("UTF-16", json.dumps(GOOD).encode("utf-16"), 400, "malformed_json"),
    ("a byte order mark", b"\xef\xbb\xbf" + _with(), 400, "malformed_json"),
    ("more after the end", _with() + MARK.encode(), 400, "malformed_json"),
    ("compressed", b"\x1f\x8b\x08\x00" + MARK.encode(), 400, "malformed_json"),
    ("NUL in a reason", _with(override={"reason": f"a\0{MARK}"}), 422, "control_characters"),
    ("a command for a printer in a reason", _with(override={"reason": f"\x1bp0{MARK}"}), 422, "control_characters"),
    ("text that runs backwards", _with(override={"reason": f"\u202e{MARK}"}), 422, "control_characters"),
    ("card number with invisible signs", _with(note="\u200b".join("4111111111111111")), 422, "card_data_refused"),
    ("card number in another script", _with(note="৪" + "১" * 15), 422, "card_data_refused"),
    ("too large", b'{"pad": "' + b"x" * 10_000_000 + b'"}', 413, "body_too_large"),
]


class Logs(logging.Handler):
    """Every record with all its fields, whoever logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("httpx2", "httpcore2")):  # the client's own, in the same process here
            self.text.append(repr(record.__dict__))


@pytest.fixture
def logs() -> Any:
    handler = Logs()
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


@pytest.fixture
async def till(hub: ServedHub) -> Credential:
    return await hub.pair()


def _client(hub: ServedHub, credential: Credential | None) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {credential.token}"} if credential else {}
    context: ssl.SSLContext = pinned_context(hub.certificates.ca_file.read_text("ascii"))
    return httpx2.AsyncClient(verify=context, base_url=hub.https, headers=headers, timeout=30)


def _no_trace(hub: ServedHub, folder: Path, logs: Logs, head: int) -> None:
    assert hub.shop.services.db.head.seq == head, "the journal has grown"
    logged = "\n".join(logs.text)
    for secret in (MARK, CARD, "4111111111111111"):
        assert secret not in logged, f"{secret} stands in a log"
        for path in folder.rglob("hub.db*"):
            assert secret.encode() not in path.read_bytes(), f"{secret} stands in {path.name}"


async def _backed_up(hub: ServedHub, folder: Path) -> Path:
    """The database as a backup that is made now holds it, opened again."""
    private, services = bytes(range(32)), hub.shop.services
    keys = (Recipient("tenant", sealed.public_key_of(private)),)
    parts = Contents(folder / "archive", {}, frozenset())
    made = await backup.make(services.db, folder / "backups", parts, keys, 1, services.runtime.ids)
    await asyncio.to_thread(backup.restore, made.path, private, folder / "restored")
    return folder / "restored" / "hub.db"


@pytest.mark.blocking_allowed("it greps the database's files")
async def test_every_bad_body_is_refused_without_a_trace(
    hub: ServedHub, till: Credential, tmp_path: Path, logs: Logs
) -> None:
    head = hub.shop.services.db.head.seq
    wrong = []
    async with _client(hub, till) as client:
        for name, body, status, code in BAD_BODIES:
            answer = await client.put(
                f"/v1/payments/{new_id()}", content=body, headers={"content-type": "application/json"}
            )
            shown = answer.json()
            if (answer.status_code, shown.get("code")) != (status, code):
                wrong.append((name, answer.status_code, shown))
            assert answer.headers["content-type"] == "application/problem+json"
            assert shown["type"] == f"urn:hubd:problem:{shown['code']}"
            assert {"title", "status", "detail", "retry"} <= set(shown)
            assert MARK not in answer.text
            assert "hub-line" in answer.headers
        assert wrong == []
        _no_trace(hub, tmp_path, logs, head)
        sale = new_id()
        good = await client.put(f"/v1/payments/{sale}", json=GOOD)
        assert good.status_code == 201, "the control: a good body is taken"
    head = hub.shop.services.db.head.seq
    copy = await _backed_up(hub, tmp_path)
    assert sale.encode() in copy.read_bytes(), "the control: what was taken is found"
    _no_trace(hub, tmp_path, logs, head)


BadCall = tuple[httpx2.AsyncClient, str, str, dict[str, Any], int, str]


def _bad_calls(client: httpx2.AsyncClient, payment: str) -> list[BadCall]:
    """Who asks what, and the status and code that must come."""
    return [
        (client, "PUT", f"/v1/payments/{MARK}", {"json": GOOD}, 422, "invalid_id"),
        (client, "PUT", "/v1/payments/4111111111111111", {"json": GOOD}, 422, "card_data_refused"),
        (client, "GET", "/v1/payments?terminal=4111%201111%201111%201111", {}, 422, "card_data_refused"),
        (client, "PUT", "/v1/payments/00000000-0000-4000-8000-000000000000", {"json": GOOD}, 422, "invalid_id"),
        (client, "GET", payment, {}, 404, "payment_unknown"),
        (client, "GET", "/v1/payments?terminal=4111%2D1111%2D1111%2D1111", {}, 422, "card_data_refused"),
        (client, "GET", f"/v1/payments/%00{MARK}", {}, 422, "control_characters"),
        (client, "GET", f"/v1/payments/%ED%A0%80{MARK}", {}, 422, "invalid_id"),
        (client, "GET", f"/v1/%2e%2e/{MARK}", {}, 404, "not_found"),
        (client, "GET", f"/v1/payments?cursor=%0d%0a{MARK}", {}, 422, "invalid_field"),
        (client, "GET", "/v1/events?after=" + "9" * 30, {}, 422, "invalid_field"),
        (client, "TRACE", payment, {"headers": {"x-mark": MARK}}, 405, "method_not_allowed"),
        (client, "OPTIONS", payment, {}, 405, "method_not_allowed"),
        (client, MARK.upper(), payment, {}, 405, "method_not_allowed"),
        (client, "GET", payment, {"headers": {"attempt": "9" * 4000}}, 422, "invalid_attempt"),
        (client, "GET", f"/v1/{MARK}", {}, 404, "not_found"),
        (client, "DELETE", payment, {}, 405, "method_not_allowed"),
        (
            client,
            "PUT",
            payment,
            {"content": b"a=1", "headers": {"content-type": "text/plain"}},
            415,
            "wrong_media_type",
        ),
        (client, "GET", f"/v1/payments?{MARK}=1", {}, 422, "unknown_field"),
        (client, "GET", "/v1/payments?limit=100000", {}, 422, "invalid_field"),
        (client, "GET", "/v1/payments?limit=1&limit=2", {}, 422, "invalid_field"),
        (client, "GET", "/v1/payments?since=" + MARK, {}, 422, "invalid_time"),
        (client, "PUT", payment, {"json": GOOD, "headers": {"attempt": MARK}}, 422, "invalid_attempt"),
        (client, "PUT", payment, {"json": GOOD, "headers": {"hub-line": MARK}}, 422, "invalid_hub_line"),
        (client, "GET", payment, {"headers": {"hub-session": MARK}}, 401, "access.session_over"),
    ]


def _bad_callers(client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, payment: str) -> list[BadCall]:
    """The same for those who may not ask, or not from there."""
    return [
        (client, "GET", payment, {"headers": {"origin": "https://evil.example"}}, 403, "access.foreign_origin"),
        (client, "GET", payment, {"headers": {"origin": "null"}}, 403, "access.foreign_origin"),
        (client, "GET", payment, {"headers": {"host": "evil.example"}}, 403, "access.foreign_host"),
        (client, "PUT", "/v1/settings/store.name", {"json": {"value": "x"}}, 403, "access.not_allowed"),
        (
            client,
            "GET",
            payment,
            {"headers": {"host": "evil.example", "origin": "https://evil.example"}},
            403,
            "access.foreign_host",
        ),
        (client, "GET", payment, {"headers": {"host": "127.0.0.1@evil.example"}}, 403, "access.foreign_host"),
        (
            client,
            "GET",
            payment,
            {"headers": [("origin", "https://127.0.0.1"), ("origin", "https://evil.example")]},
            403,
            "access.foreign_origin",
        ),
        (stranger, "GET", payment, {}, 401, "access.not_signed_in"),
        (stranger, "GET", payment, {"headers": {"authorization": f"Bearer {MARK}"}}, 401, "access.unknown_token"),
        (stranger, "GET", payment, {"headers": {"authorization": f"Basic {MARK}"}}, 401, "access.not_signed_in"),
        (stranger, "GET", payment, {"headers": {"signature-input": MARK}}, 401, "access.bad_signature"),
        (
            stranger,
            "GET",
            payment,
            {"headers": {"cookie": f"hubd_session={'a' * 43}"}},
            401,
            "access.not_signed_in",
        ),
        (stranger, "GET", "/v1/events?ticket=" + "a" * 43, {}, 401, "access.ticket_over"),
        (
            stranger,
            "POST",
            "/v1/pairings",
            {"json": {"id": new_id(), "code": "00000000", "name": MARK}},
            403,
            "pairing.code_wrong",
        ),
        (stranger, "POST", "/v1/sessions", {"json": {"staff": new_id(), "pin": "482915"}}, 401, "pin_wrong"),
    ]


@pytest.mark.blocking_allowed("it greps the database's files")
async def test_wrong_ids_tokens_types_and_addresses(
    hub: ServedHub, till: Credential, tmp_path: Path, logs: Logs
) -> None:
    head = hub.shop.services.db.head.seq
    payment = f"/v1/payments/{new_id()}"
    async with _client(hub, till) as client, _client(hub, None) as stranger:
        cases = _bad_calls(client, payment) + _bad_callers(client, stranger, payment)
        wrong = []
        for caller, method, path, more, status, code in cases:
            answer = await caller.request(method, path, **more)
            if (answer.status_code, answer.json().get("code")) != (status, code):
                wrong.append((method, path, answer.status_code, answer.json()))
            assert MARK not in answer.text
        assert wrong == []
    _no_trace(hub, tmp_path, logs, head)


async def test_a_slow_body_is_given_up(hub: ServedHub, till: Credential, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS_MAX", 0.2)
    context = await asyncio.to_thread(lambda: pinned_context(hub.certificates.ca_file.read_text("ascii")))
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.https_port, ssl=context)
    writer.write(
        f"PUT /v1/payments/{new_id()} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {till.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{".encode()
    )
    await writer.drain()
    answer = await reader.read(4096)
    assert b"408" in answer.partition(b"\r\n")[0], answer
    assert b'"code":"body_too_slow"' in answer + await reader.read(4096)
    writer.close()
    await writer.wait_closed()


async def test_a_body_without_length_is_cut_while_it_streams(hub: ServedHub, till: Credential) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(10):
            sent += 65_536
            yield b" " * 65_536

    context = await asyncio.to_thread(lambda: pinned_context(hub.certificates.ca_file.read_text("ascii")))
    async with httpx2.AsyncClient(verify=context, base_url=hub.https) as client:
        answer = await client.put(
            f"/v1/payments/{new_id()}",
            content=endless(),
            headers={"authorization": f"Bearer {till.token}", "content-type": "application/json"},
        )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_fault_of_ours_is_logged_by_its_place_and_not_by_its_words(
    hub: ServedHub, till: Credential, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_anything: object) -> None:
        raise ValueError(MARK)

    monkeypatch.setattr("local_api.routes.payments.say", fail)
    context = await asyncio.to_thread(lambda: pinned_context(hub.certificates.ca_file.read_text("ascii")))
    async with httpx2.AsyncClient(verify=context, base_url=hub.https) as client:
        answer = await client.put(
            f"/v1/payments/{new_id()}", json=GOOD, headers={"authorization": f"Bearer {till.token}"}
        )
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    logged = "\n".join(logs.text)
    assert "api.failed" in logged
    assert "payment_out" in logged, "the place must be found"
    assert MARK not in logged + answer.text
