"""The outage policy as data, and the decision about one sale before a terminal is touched (domain 1B, 1F.1, B02-B06).

Acceptance window and upload deadline are two separate fields. Deadlines use the longest time that may have passed
(`Elapsed.most_s`), because a wrong clock must never make a deadline look later than it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from hubd.errors import InvalidValueError
from hubd.model.money import Money
from hubd.model.payment import Method

HOUR_S = 3_600
DAY_S = 24 * HOUR_S
ACCEPT_FOR_MAX_S = 30 * DAY_S


class UploadAnchor(StrEnum):
    """From when the upload deadline counts."""

    CONNECTION_LOST = "connection_lost"
    FIRST_OFFLINE_PAYMENT = "first_offline_payment"


class WhenElapsedUnknown(StrEnum):
    """What to do with cards while nobody can bound how long the outage has lasted."""

    REFUSE = "refuse"
    MANAGER = "manager"


class OutagePolicy(Struct, frozen=True):
    """What may be taken offline by one class of device."""

    enabled: bool
    """Off until a permitted person turns it on (B10)."""
    accept_for_s: int
    upload_within_s: int
    upload_anchor: UploadAnchor
    excluded_methods: frozenset[Method]
    limit_per_payment: Mapping[str, int]
    """Minor units by currency; a currency that is missing has no offline payments."""
    when_elapsed_unknown: WhenElapsedUnknown = WhenElapsedUnknown.MANAGER

    def as_json(self) -> dict[str, Any]:
        """The value of the setting `outage_policy.CLASS`."""
        return {
            "enabled": self.enabled,
            "accept_for_s": self.accept_for_s,
            "upload_within_s": self.upload_within_s,
            "upload_anchor": self.upload_anchor.value,
            "excluded_methods": sorted(self.excluded_methods),
            "limit_per_payment": dict(sorted(self.limit_per_payment.items())),
            "when_elapsed_unknown": self.when_elapsed_unknown.value,
        }


# Square's published rules (domain B02-B06): Reader and Stand accept for one hour and count the deadline from the loss
# of connection, Register and Terminal accept for 24 hours and count from the first offline payment.
_SQUARE_EXCLUDED = frozenset({Method.CONTACTLESS, Method.GIFT_CARD, Method.CLEARPAY, Method.MANUAL_ENTRY})
SHIPPED: Mapping[str, OutagePolicy] = {
    "reader": OutagePolicy(
        enabled=False,
        accept_for_s=HOUR_S,
        upload_within_s=DAY_S,
        upload_anchor=UploadAnchor.CONNECTION_LOST,
        excluded_methods=_SQUARE_EXCLUDED,
        limit_per_payment={"EUR": 10_000},
    ),
    "terminal": OutagePolicy(
        enabled=False,
        accept_for_s=DAY_S,
        upload_within_s=DAY_S,
        upload_anchor=UploadAnchor.FIRST_OFFLINE_PAYMENT,
        excluded_methods=_SQUARE_EXCLUDED,
        limit_per_payment={"EUR": 10_000},
    ),
}
SHIPPED_VERSION = 0
"""The version that an entry names when no setting has been made yet."""


def parse_policy(value: Any) -> OutagePolicy:
    """Read the value of a setting; raises `invalid_policy` naming the field."""
    try:
        policy = OutagePolicy(
            enabled=_of(value, "enabled", bool),
            accept_for_s=_of(value, "accept_for_s", int),
            upload_within_s=_of(value, "upload_within_s", int),
            upload_anchor=UploadAnchor(_of(value, "upload_anchor", str)),
            excluded_methods=frozenset(Method(name) for name in _of(value, "excluded_methods", list)),
            limit_per_payment={
                Money(limit, currency).currency: limit
                for currency, limit in _of(value, "limit_per_payment", dict).items()
            },
            when_elapsed_unknown=WhenElapsedUnknown(_of(value, "when_elapsed_unknown", str)),
        )
    except ValueError as exc:
        raise _invalid(f"a field has a value that is not one of its words ({exc})") from exc
    if not (0 <= policy.accept_for_s <= ACCEPT_FOR_MAX_S and 0 < policy.upload_within_s <= ACCEPT_FOR_MAX_S):
        raise _invalid(f"accept_for_s and upload_within_s lie between 0 and {ACCEPT_FOR_MAX_S}")
    if Method.CASH in policy.excluded_methods:
        raise _invalid("cash is not an offline payment and is always allowed")
    return policy


def _invalid(why: str) -> InvalidValueError:
    return InvalidValueError("invalid_policy", f"The outage policy cannot be used: {why}.", remedy="Correct the field.")


def _of(value: Any, name: str, kind: type) -> Any:
    if not isinstance(value, dict) or type(value.get(name)) is not kind:
        raise _invalid(f"{name} is missing or has another type")
    return value[name]


class Elapsed(Struct, frozen=True):
    """Time since the first loss, as an interval; `most_s` is None when no witness bounds it."""

    least_s: int
    most_s: int | None


class Sale(Struct, frozen=True):
    """What is to be decided."""

    money: Money
    method: Method
    by_manager: bool
    """Whether a person with the permission to decide stands behind the request."""


class Accept(Struct, frozen=True):
    """The terminal may approve offline; `upload_within_s` counts from `anchor`."""

    anchor: UploadAnchor
    upload_within_s: int


class Refuse(Struct, frozen=True):
    """Not allowed offline. `would_allow` names what would be accepted instead, as stable words."""

    code: str
    params: Mapping[str, str | int]
    would_allow: tuple[str, ...]


def decide(policy: OutagePolicy, sale: Sale, elapsed: Elapsed) -> Accept | Refuse:
    """Decide one card sale during an outage. Pure; the first rule that refuses is named."""
    if not policy.enabled:
        return Refuse("offline_not_enabled", {}, ("cash", "manager"))
    if sale.method in policy.excluded_methods:
        return Refuse("method_not_allowed_offline", {"method": sale.method.value}, ("chip", "cash"))
    limit = policy.limit_per_payment.get(sale.money.currency)
    if limit is None:
        return Refuse("currency_not_allowed_offline", {"currency": sale.money.currency}, ("cash",))
    if sale.money.amount_minor > limit:
        return Refuse(
            "over_offline_limit", {"limit": limit, "currency": sale.money.currency}, ("cash", "smaller_amount")
        )
    if elapsed.most_s is None:
        if policy.when_elapsed_unknown is WhenElapsedUnknown.REFUSE or not sale.by_manager:
            manager = policy.when_elapsed_unknown is WhenElapsedUnknown.MANAGER
            return Refuse("elapsed_unknown", {}, ("manager", "cash") if manager else ("cash",))
    elif elapsed.most_s > policy.accept_for_s:
        return Refuse("offline_window_closed", {"accept_for_s": policy.accept_for_s}, ("cash",))
    return Accept(policy.upload_anchor, policy.upload_within_s)


def deadline_us(accepted: Accept, outage_started_us: int, first_offline_us: int | None, now_us: int) -> int:
    """When the payment must have reached its acquirer (B02, B03), in UTC microseconds."""
    if accepted.anchor is UploadAnchor.CONNECTION_LOST:
        anchor = outage_started_us
    else:
        anchor = now_us if first_offline_us is None else min(first_offline_us, now_us)
    return anchor + accepted.upload_within_s * 1_000_000
