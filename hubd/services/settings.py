"""Settings: one effective-dated, versioned mechanism for what a merchant may want to change (design 7, 11)."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from hubd.errors import AccessError, HubError, InvalidValueError, NotFoundError, Retry
from hubd.model.entry import Draft, Json
from hubd.model.policy import SHIPPED, SHIPPED_VERSION, OutagePolicy, parse_policy
from hubd.model.receipt_layout import ReceiptLayout, layout_value, parse_layout
from hubd.store import journal, people, settings
from hubd.store.db import Database
from hubd.store.settings import Setting
from hubd.store.tx import Connection, Tx

POLICY_PREFIX = "outage_policy."
RECEIPT_LAYOUT = "receipt.layout"
CUSTOMER_RECEIPT = "receipt.customer_automatic"
"""Whether a customer's receipt is printed without anybody asking (domain D13). Shipped off: the till or the customer
asks, as French law wants it since August 2023."""
SECOND_FACTOR = "access.second_factor"
_HERE = ("hub", "store")
_EVERYWHERE = ("hub", "store", "fleet")
LOCAL_SCOPES = ("hub", "location", "device")


def _policy_value(value: Json) -> Json:
    return parse_policy(value).as_json()


def _text(limit: int) -> Callable[[Json], Json]:
    def check(value: Json) -> Json:
        if not isinstance(value, str) or len(value) > limit:
            raise InvalidValueError("invalid_setting", f"The value is not a text of at most {limit} characters.")
        return value

    return check


def _whole(least: int, most: int) -> Callable[[Json], Json]:
    def check(value: Json) -> Json:
        if type(value) is not int or not least <= value <= most:
            raise InvalidValueError("invalid_setting", f"The value is not a whole number from {least} to {most}.")
        return value

    return check


def _yes_or_no(value: Json) -> Json:
    if type(value) is not bool:
        raise InvalidValueError("invalid_setting", "The value is neither true nor false.")
    return value


class Known(Struct, frozen=True):
    """A setting that this program understands."""

    default: Json
    check: Callable[[Json], Json]
    local: bool
    """Whether a manager may override it in the store."""
    by_location: bool = False
    """Whether a location may have a value of its own."""


KNOWN: dict[str, Known] = {
    **{
        f"{POLICY_PREFIX}{name}": Known(policy.as_json(), _policy_value, local=True, by_location=True)
        for name, policy in SHIPPED.items()
    },
    "store.name": Known("", _text(80), local=True),
    "vendor.status_url": Known("https://www.issquareup.com/", _text(200), local=True),
    "day.starts_at_minute": Known(0, _whole(0, 1439), local=True),
    "network.help_phone": Known("", _text(40), local=True),
    RECEIPT_LAYOUT: Known(layout_value({}), layout_value, local=True, by_location=True),
    CUSTOMER_RECEIPT: Known(False, _yes_or_no, local=True, by_location=True),
    SECOND_FACTOR: Known(False, _yes_or_no, local=True),
    "vendor.support_contact": Known("", _text(80), local=True),
}


class Effective(Struct, frozen=True):
    """A value in force and where it comes from."""

    key: str
    value: Json
    version: int
    source: str
    scope: str
    effective_from_us: int
    newest: int = SHIPPED_VERSION
    """Version of the last change, planned ones too: what a new change is based on. Told by `get` alone."""


def effective(
    connection: Connection,
    key: str,
    at_us: int,
    scopes: tuple[str, ...] = _HERE,
    upto_seq: int | None = None,
) -> Effective:
    """The value of a known key that counts at `at_us`; the shipped default if nobody has set one.

    Of the past: what counted at the entry `upto_seq`.
    """
    known = KNOWN.get(key)
    if known is None:
        raise HubError("unknown_setting", f"There is no setting {key}.", remedy="See the list of settings.")
    found = settings.in_force(connection, key, at_us, scopes, upto_seq)
    if found is None:
        return Effective(key, known.default, SHIPPED_VERSION, "shipped", "hub", 0)
    return Effective(key, found.value, found.version, found.source, found.scope, found.effective_from_us)


def policy_in_force(
    connection: Connection, device_class: str, location: str, at_us: int, upto_seq: int | None = None
) -> tuple[OutagePolicy, int]:
    """The outage policy of a device class and its version. Of the past: what counted at the entry `upto_seq`."""
    key = f"{POLICY_PREFIX}{device_class}"
    if key not in KNOWN:
        key = f"{POLICY_PREFIX}terminal"
    found = effective(connection, key, at_us, _scopes(key, location), upto_seq)
    return parse_policy(found.value), found.version


def receipt_layout(connection: Connection, location: str, at_us: int, upto_seq: int | None = None) -> ReceiptLayout:
    """The ticket layout of a location. Of the past: what counted at the entry `upto_seq`."""
    found = effective(connection, RECEIPT_LAYOUT, at_us, _scopes(RECEIPT_LAYOUT, location), upto_seq)
    return parse_layout(found.value)


def prints_customer_receipts(connection: Connection, location: str, at_us: int) -> bool:
    """Whether this location prints the customer's receipt by itself (domain D13)."""
    return effective(connection, CUSTOMER_RECEIPT, at_us, _scopes(CUSTOMER_RECEIPT, location)).value is True


def _scopes(key: str, location: str) -> tuple[str, ...]:
    """Where a value may come from, the nearest first."""
    known = KNOWN.get(key)
    if known is not None and known.by_location:
        return f"location:{location}", *_EVERYWHERE
    if location:
        raise InvalidValueError(
            "setting_not_per_location", f"The setting {key} counts for the whole hub.", remedy="Name no location."
        )
    return _HERE


def _newest(connection: Connection, key: str, scopes: tuple[str, ...]) -> int:
    found = settings.newest_version(connection, key, scopes)
    return SHIPPED_VERSION if found is None else found


def change(
    tx: Tx,
    actor: str,
    key: str,
    value: Json,
    *,
    scope: str,
    effective_from_us: int,
    source: str,
    cause: dict[str, Json] | None = None,
) -> int:
    """Append one change, in the transaction of `tx`; returns its version. Raises for unknown keys and bad values.

    `cause` names the entry of the cloud's journal that asks for it.
    """
    known = KNOWN.get(key)
    if known is None:
        raise HubError("unknown_setting", f"There is no setting {key}.", remedy="See the list of settings.")
    if source == "local" and not known.local:
        raise HubError("setting_not_local", f"The setting {key} is set by the cloud only.", remedy="Change it there.")
    version = settings.next_version(tx.connection, key)
    body = {
        "key": key,
        "value": known.check(value),
        "scope": scope,
        "effective_from_us": effective_from_us,
        "version": version,
        "source": source,
    }
    if cause is not None:
        body["cause"] = cause
    journal.append(tx, Draft("setting.changed", key, actor, body))
    return version


def _need_somebody_enrolled(tx: Tx, actor: str) -> None:
    """Who asks all others for a second factor has one: else a slip would lock everybody out at once."""
    enrolled = people.with_second_factor(tx.connection)
    asks, _, staff = actor.partition(":")
    if not (staff in enrolled if asks == "staff" else enrolled):
        raise AccessError(
            "second_factor.nobody_enrolled",
            "Only somebody who has a second factor may ask it of everybody.",
            remedy="Enrol first, under Second factor on the page.",
        )


class SettingsDesk:
    """What people may ask of settings."""

    def __init__(self, db: Database, now_us: Callable[[], int]) -> None:
        self._db = db
        self._now_us = now_us

    async def get(self, key: str, location: str = "") -> Effective:
        """The value in force now, for the hub or for one location. Raises `unknown_setting`."""
        now, scopes = self._now_us(), _scopes(key, location)

        def read(connection: Connection) -> Effective:
            found = effective(connection, key, now, scopes)
            return replace(found, newest=_newest(connection, key, scopes))

        return await self._db.read("settings.get", read)

    async def all(self) -> list[Effective]:
        """Every known setting with its value in force and its origin."""
        now = self._now_us()
        return await self._db.read("settings.all", lambda c: [effective(c, key, now) for key in sorted(KNOWN)])

    async def history(self, key: str) -> list[Setting]:
        """Every value a key has had or will have."""
        return await self._db.read("settings.history", lambda connection: settings.history(connection, key))

    async def put(
        self,
        actor: str,
        key: str,
        value: Json,
        *,
        if_version: int | None = None,
        effective_from_us: int | None = None,
        location: str = "",
    ) -> int:
        """Set a value for this hub, or one location, from now or from a later moment; returns the new version, durable.

        With `if_version`, raises `changed_meanwhile` when somebody else was faster, also with a change for later.
        """
        start = effective_from_us if effective_from_us is not None else self._now_us()
        scopes = _scopes(key, location)

        def work(tx: Tx) -> int:
            if location and people.location(tx.connection, location) is None:
                raise NotFoundError("location_unknown", "There is no such location.", remedy="Read the locations.")
            if if_version is not None and _newest(tx.connection, key, scopes) != if_version:
                raise HubError(
                    "changed_meanwhile",
                    f"The setting {key} was changed by somebody else.",
                    remedy="Read it again and decide anew.",
                    retry=Retry.AFTER_ENQUIRY,
                )
            if key == SECOND_FACTOR and value is True:
                _need_somebody_enrolled(tx, actor)
            scope = f"location:{location}" if location else "hub"
            return change(tx, actor, key, value, scope=scope, effective_from_us=start, source="local")

        return await self._db.write("settings.put", work)
