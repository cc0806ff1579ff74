"""What may be done with a device, and what its entries say: rules inside `Database.write`."""

from __future__ import annotations

from msgspec import Struct

from hubd.errors import DeviceError, InvalidValueError, NotFoundError, Retry
from hubd.model.device import DeviceKind
from hubd.model.entry import Json
from hubd.model.payment import Mode, Payment, PaymentState
from hubd.model.permissions import Permission
from hubd.services.access import Caller
from hubd.services.calendar import business_date
from hubd.services.settings import effective
from hubd.store import devices, payments, people
from hubd.store.devices import Device
from hubd.store.tx import Connection, Tx

UNDER_WAY = frozenset({PaymentState.REQUESTED, PaymentState.IN_PROGRESS})


class NewDevice(Struct, frozen=True):
    """A device that discovery or the configuration proposes."""

    address: str
    driver: str
    name: str
    device_class: str
    location: str
    role: str = ""
    identity: str = ""
    """What it is, whatever its address; empty: its address is all that is known."""
    kind: DeviceKind = DeviceKind.TERMINAL


def refuse_place_of_terminal(kind: DeviceKind, role: str) -> None:
    """Raise `role_not_for_terminals` where a terminal is given to a place that is no till."""
    if kind is DeviceKind.TERMINAL and role.startswith("place:"):
        raise InvalidValueError(
            "role_not_for_terminals",
            "A terminal belongs to a till or to all of them: nobody pays at a place.",
            remedy="Send the role till:ID, or none.",
        )


def refuse_till_elsewhere(tx: Tx, role: str, location: str) -> None:
    """Raise `till_elsewhere` for the role of a till of another location: nobody would ever use the device."""
    till = devices.get(tx.connection, role.removeprefix("till:")) if role.startswith("till:") else None
    if till is not None and till.location != location:
        raise InvalidValueError(
            "till_elsewhere",
            "The till is at another location than the device.",
            remedy="Choose a till of its location, or take the device to the till's.",
            params={"location": till.location},
        )


def refuse_known_by_plug(device: Device, address: str) -> None:
    """What tells a number, or is known by its plug, is followed by that; a typed node would be another device's."""
    plugged = device.identity.startswith(("serial:", "port:")) and "://" not in device.identity
    local = not address.startswith(("tcp:", "tls:"))
    if plugged and (local or not device.address.startswith(("tcp:", "tls:"))):
        raise DeviceError(
            "device.known_by_plug",
            "This device is known by what it is, wherever it is plugged in.",
            remedy="Plug it in where you want it; put another device in its place with the claim of what was found.",
        )


def currency_at(tx: Tx, location_id: str) -> str:
    """ISO 4217 code of a location; "" for one that is not known."""
    location = people.location(tx.connection, location_id)
    return location.currency if location else ""


def claim_body(new: NewDevice) -> dict[str, Json]:
    """The body of `device.claimed`."""
    return {
        "address": new.address,
        "device_class": new.device_class,
        "driver": new.driver,
        "identity": new.identity or new.address,
        "kind": new.kind.value,
        "location": new.location,
        "name": new.name,
        "role": new.role,
    }


def with_currency(connection: Connection, device_id: str) -> tuple[Device, str]:
    """A device and the currency of its location; "" where that is not known. Raises `device_unknown`."""
    device = devices.get(connection, device_id)
    if device is None:
        raise unknown_device()
    place = people.location(connection, device.location)
    return device, place.currency if place else ""


def end_of_day_body(tx: Tx, location: str, caller: Caller) -> dict[str, Json]:
    """The body of `end_of_day.started`: where, when by the shop's calendar, and by whom."""
    place = people.location(tx.connection, location)
    zone = place.zone if place else "UTC"
    starts = effective(tx.connection, "day.starts_at_minute", tx.now_us()).value
    return {
        "business_date": business_date(tx.now_us(), zone, starts),
        "device": caller.device,
        "location": location,
        "mode": Mode.LIVE.value,
        "staff": caller.staff,
        "zone": zone,
    }


def need(tx: Tx, device_id: str) -> Device:
    """A device that was not removed. Raises `device_unknown`."""
    device = devices.get(tx.connection, device_id)
    if device is None or device.removed:
        raise unknown_device()
    return device


def need_for(tx: Tx, device_id: str, caller: Caller, permission: Permission = Permission.DEVICES_MANAGE) -> Device:
    """A device to be changed, by one who may manage (or activate) those of its location."""
    device = need(tx, device_id)
    caller.need_at(permission, device.location)
    return device


def unheard_error(outages_count: int) -> DeviceError:
    """`terminal_unheard`: it took payments in this many outages and has not answered since."""
    return DeviceError(
        "terminal_unheard",
        "The terminal took payments in an outage and has not answered since.",
        remedy="Switch it on and wait until it answers. If it never will, say so in a reason.",
        retry=Retry.AFTER_ENQUIRY,
        params={"outages": outages_count},
    )


def paying_error() -> DeviceError:
    """`device.busy`: the terminal works on a payment."""
    return DeviceError(
        "device.busy",
        "The terminal is taking a payment.",
        remedy="Wait for it.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=10,
    )


def unknown_device() -> NotFoundError:
    """`device_unknown`."""
    return NotFoundError("device_unknown", "No device of this id is known to this hub.", remedy="Read the list.")


def pending_on(tx: Tx, device_id: str) -> list[Payment]:
    """Payments whose money is, or may be, in this terminal (B14)."""
    return [payment for payment in payments.open_ones(tx.connection) if payment.terminal == device_id]


def pending_of_till(tx: Tx, device_id: str) -> list[Payment]:
    """Payments that this till asked for and that have no outcome yet: only it knows what stands on its screen."""
    return [
        one for one in [*payments.running(tx.connection), *payments.unknown(tx.connection)] if one.till == device_id
    ]


def refuse_under_way(tx: Tx, device_id: str) -> None:
    """Raise `device.busy` while the terminal works on a payment: nobody takes its place in the middle of one."""
    if any(payment.state in UNDER_WAY for payment in pending_on(tx, device_id)):
        raise paying_error()


def refuse_while_pending(pending: list[Payment]) -> None:
    """Raise `pending_offline_payments` with count and total if anything is pending (B14, promise 5)."""
    if not pending:
        return
    total = sum(payment.money.amount_minor for payment in pending)
    raise DeviceError(
        "pending_offline_payments",
        f"{len(pending)} payments are not confirmed yet.",
        remedy="Leave the device connected until they are sent and answered; resolve unknown ones first.",
        retry=Retry.AFTER_ENQUIRY,
        params={"count": len(pending), "total": total, "currency": pending[0].currency},
    )
