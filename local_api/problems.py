"""From an error to a problem document (RFC 9457) with code, remedy and what a program may do next.

A document never repeats anything of the request: what came in may be what must not be written anywhere.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from hubd.errors import (
    AccessError,
    DeviceError,
    HubError,
    InvalidTransitionError,
    InvalidValueError,
    NotFoundError,
    OrderError,
    PaymentError,
    PrintError,
    Retry,
    StoreError,
    SyncError,
)
from hubd.services.say import say_refused
from local_api.schemas import SayOut

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:hubd:problem:"

STATUS_BY_CODE: dict[str, int] = {
    "malformed_json": 400,
    "malformed_request": 400,
    "malformed_http": 400,
    "access.not_signed_in": 401,
    "access.unknown_token": 401,
    "access.bad_signature": 401,
    "access.stale_signature": 401,
    "access.session_over": 401,
    "access.ticket_over": 401,
    "pin_wrong": 401,
    "second_factor.needed": 401,
    "second_factor.code_wrong": 401,
    "second_factor.clock_uncertain": 401,
    "second_factor.not_begun": 409,
    "second_factor.nobody_enrolled": 409,
    "pin_locked": 429,
    "access.busy": 429,
    "backup.busy": 429,
    "backup.digest_differs": 409,
    "backup.range": 416,
    "too_many_requests": 429,
    "too_many_pairings": 429,
    "method_not_allowed": 405,
    "body_too_slow": 408,
    "head_too_slow": 408,
    "body_too_large": 413,
    "wrong_media_type": 415,
    "changed_meanwhile": 412,
    "if_match_missing": 428,
    "head_too_large": 431,
    "unknown_setting": 404,
    "store.full": 507,
    "store.low_space": 507,
    "setup.done": 409,
    "recovery.other_code": 409,
    "last_owner": 409,
    "staff_logged_in": 409,
    "pairing.code_used": 409,
    "pairing.too_many_tries": 429,
    "pairing.not_waiting": 409,
    "pairing.other_kind": 409,
    "internal": 500,
    "not_ready": 503,
    "too_many_connections": 503,
}
STATUS_BY_CLASS: tuple[tuple[type[HubError], int], ...] = (
    (InvalidValueError, 422),
    (AccessError, 403),
    (NotFoundError, 404),
    (PaymentError, 409),
    (OrderError, 409),
    (PrintError, 409),
    (InvalidTransitionError, 409),
    (DeviceError, 409),
    (StoreError, 503),
    (SyncError, 503),
)
_SAFE_FIELD = re.compile(r"[a-z][a-z_]{0,39}")
_FIELD_PATH = re.compile(r"\$((?:\.[a-z][a-z_]{0,39}|\[\d{0,5}\]|\[\.\.\.\])*)$")


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What every refusal looks like. `code` is stable; `detail` and `remedy` are for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retry: Retry
    remedy: str = ""
    params: dict[str, Any] = {}
    say: SayOut | None = None
    """For the cashier and the customer, where a right request for money was refused."""
    allowed: list[str] = []


def status_of(error: HubError) -> int:
    """The HTTP status that goes with an error."""
    if error.code in STATUS_BY_CODE:
        return STATUS_BY_CODE[error.code]
    return next((status for kind, status in STATUS_BY_CLASS if isinstance(error, kind)), 400)


def title_of(code: str) -> str:
    """A code in words."""
    return code.replace(".", ": ").replace("_", " ").capitalize()


def problem_of(error: HubError, language: str = "") -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an error; with sentences where the caller, and so the language, is known."""
    status = status_of(error)
    spoken = say_refused(error.code, language) if language else None
    document = Problem(
        TYPE_PREFIX + error.code,
        title_of(error.code),
        status,
        error.detail,
        error.code,
        error.retry,
        error.remedy,
        dict(error.params),
        SayOut(spoken.cashier, spoken.customer) if spoken else None,
        list(spoken.allowed) if spoken else [],
    )
    headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="hubd"'
    return status, msgspec.json.encode(document), headers


def internal() -> HubError:
    """What is told of a fault of ours; its traceback is in the log, without the request."""
    return HubError(
        "internal",
        "The hub made a mistake.",
        remedy="Repeat the same request; if it stays, send the report of `hubctl bugreport`.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=5,
    )


def stopping() -> StoreError:
    """The hub stops while a request runs; whether it was done is known after the repeat."""
    return StoreError(
        "hub_stopping",
        "The hub is stopping.",
        remedy="Repeat the same request in a moment, with the same id.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=5,
    )


def not_found() -> NotFoundError:
    """No such route."""
    return NotFoundError("not_found", "There is no such address here.", remedy="See /docs for what there is.")


def method_not_allowed() -> HubError:
    """A route without this method."""
    return HubError("method_not_allowed", "This address has no such method.", remedy="See the header Allow.")


def malformed_json() -> InvalidValueError:
    """A body that is no JSON."""
    return InvalidValueError(
        "malformed_json", "The body is not JSON in UTF-8.", remedy="Send what the reference in /docs shows."
    )


def invalid_request(exc: msgspec.ValidationError) -> InvalidValueError:
    """A body or query of the wrong shape. Names the field, never the value; unknown names only if harmless."""
    text = str(exc)
    what, _, place = text.partition(" - at `")
    path = _FIELD_PATH.match(place.rstrip("`")) if place else None
    field = path[1].lstrip(".") if path else ""
    named = re.search(r"field `([^`]*)`", what)
    if named is not None and _SAFE_FIELD.fullmatch(named[1]):
        field = f"{field}.{named[1]}" if field else named[1]
    at = f": {field}." if field else "."
    params: dict[str, str | int] = {"field": field} if field else {}
    if "unknown field" in what:
        return InvalidValueError(
            "unknown_field",
            f"The request has a field that this hub does not know{at}",
            remedy="Send only what GET /v1/hub announces; leave the field out.",
            params=params,
        )
    if "missing required field" in what:
        return InvalidValueError(
            "missing_field",
            f"A field is missing{at}",
            remedy="Add it; the reference in /docs shows the shape.",
            params=params,
        )
    return InvalidValueError(
        "invalid_field",
        f"A field has the wrong type or value{at}",
        remedy="Send what the reference in /docs shows; amounts are whole minor units.",
        params=params,
    )
