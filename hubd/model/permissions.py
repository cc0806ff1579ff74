"""Permissions are the primitive; roles are named sets of them, granted to a person per location."""

from __future__ import annotations

from enum import StrEnum

from hubd.errors import InvalidValueError
from hubd.model.device import DeviceKind


class Permission(StrEnum):
    """One thing a caller may do. The route table names one for every route that is not open to all."""

    HUB_READ = "hub.read"
    EVENTS_FOLLOW = "events.follow"
    PAYMENTS_READ = "payments.read"
    PAYMENTS_TAKE = "payments.take"
    PAYMENTS_CANCEL = "payments.cancel"
    PAYMENTS_REVERSE = "payments.reverse"
    PAYMENTS_REFUND = "payments.refund"
    PAYMENTS_RESOLVE = "payments.resolve"
    PAYMENTS_OVERRIDE = "payments.override"
    ORDERS_READ = "orders.read"
    ORDERS_PLACE = "orders.place"
    ORDERS_CANCEL = "orders.cancel"
    PRINT = "print.jobs"
    TOTALS_READ = "totals.read"
    DEVICES_READ = "devices.read"
    DEVICES_MANAGE = "devices.manage"
    DEVICES_OPERATE = "devices.operate"
    TERMINALS_ACTIVATE = "terminals.activate"
    """Say that a device is the shop's: from then on a terminal takes its money (domain D02)."""
    PAIRINGS_MANAGE = "pairings.manage"
    ANNOUNCE = "announcements.make"
    OUTAGES_READ = "outages.read"
    PROBLEMS_READ = "problems.read"
    JOURNAL_READ = "journal.read"
    SYNC_READ = "sync.read"
    STAFF_READ = "staff.read"
    STAFF_MANAGE = "staff.manage"
    LOCATIONS_READ = "locations.read"
    LOCATIONS_MANAGE = "locations.manage"
    SETTINGS_READ = "settings.read"
    SETTINGS_CHANGE = "settings.change"
    DOCUMENTS_ERASE = "documents.erase"
    """Have personal data forgotten: at once, or when the law that keeps it allows."""
    BACKUPS_READ = "backups.read"
    BACKUPS_MAKE = "backups.make"
    BACKUPS_KEEP = "backups.keep"
    """Fetch a sealed backup, hold it, and say so. It opens nothing: only the recovery code and the tenant's key do."""
    METRICS_READ = "metrics.read"
    MAINTENANCE = "maintenance.do"


class Role(StrEnum):
    """A name people use for a set of permissions."""

    CASHIER = "cashier"
    MANAGER = "manager"
    OWNER = "owner"
    TECHNICIAN = "technician"
    AUDITOR = "auditor"
    VIEWER = "viewer"
    ACTIVATOR = "activator"
    TERMINAL = "terminal"


_P = Permission
_LOOK = frozenset({_P.HUB_READ, _P.EVENTS_FOLLOW, _P.OUTAGES_READ, _P.PROBLEMS_READ, _P.LOCATIONS_READ})
_TERMINAL = frozenset(
    {
        _P.HUB_READ,
        _P.EVENTS_FOLLOW,
        _P.PAYMENTS_READ,
        _P.PAYMENTS_TAKE,
        _P.PAYMENTS_CANCEL,
        _P.ORDERS_READ,
        _P.ORDERS_PLACE,
        _P.ORDERS_CANCEL,
        _P.PRINT,
    }
)
_CASHIER = _LOOK | _TERMINAL | {_P.DEVICES_READ}
_MANAGER = _CASHIER | {
    _P.PAYMENTS_REVERSE,
    _P.PAYMENTS_REFUND,
    _P.PAYMENTS_RESOLVE,
    _P.PAYMENTS_OVERRIDE,
    _P.TOTALS_READ,
    _P.DEVICES_MANAGE,
    _P.DEVICES_OPERATE,
    _P.TERMINALS_ACTIVATE,
    _P.PAIRINGS_MANAGE,
    _P.JOURNAL_READ,
    _P.SYNC_READ,
    _P.STAFF_READ,
    _P.STAFF_MANAGE,
    _P.SETTINGS_READ,
    _P.SETTINGS_CHANGE,
    _P.BACKUPS_READ,
    _P.BACKUPS_MAKE,
    _P.DOCUMENTS_ERASE,
}

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.CASHIER: _CASHIER,
    Role.MANAGER: _MANAGER,
    Role.OWNER: frozenset(Permission) - {_P.ANNOUNCE},
    Role.TECHNICIAN: _LOOK
    | {
        _P.DEVICES_READ,
        _P.DEVICES_MANAGE,
        _P.DEVICES_OPERATE,
        _P.TERMINALS_ACTIVATE,
        _P.PRINT,
        _P.PAIRINGS_MANAGE,
        _P.JOURNAL_READ,
        _P.SYNC_READ,
        _P.SETTINGS_READ,
        _P.BACKUPS_READ,
        _P.BACKUPS_MAKE,
        _P.METRICS_READ,
        _P.MAINTENANCE,
    },
    Role.AUDITOR: _LOOK
    | {
        _P.PAYMENTS_READ,
        _P.ORDERS_READ,
        _P.TOTALS_READ,
        _P.DEVICES_READ,
        _P.JOURNAL_READ,
        _P.SYNC_READ,
        _P.SETTINGS_READ,
        _P.BACKUPS_READ,
    },
    Role.VIEWER: _LOOK | {_P.TOTALS_READ, _P.DEVICES_READ},
    Role.ACTIVATOR: _LOOK | {_P.DEVICES_READ, _P.TERMINALS_ACTIVATE},
    Role.TERMINAL: _TERMINAL,
}

TILL_PERMISSIONS = frozenset(
    _CASHIER | {_P.ANNOUNCE, _P.SETTINGS_READ, _P.STAFF_READ, _P.BACKUPS_READ, _P.BACKUPS_KEEP}
)
"""What a paired till may do with nobody signed in: sell, and ask; whatever gives money back needs a person."""

BACK_OFFICE_PERMISSIONS = frozenset(Permission) - TILL_PERMISSIONS - ROLE_PERMISSIONS[Role.VIEWER]
"""What runs the shop instead of selling in it or looking on: a credential of a terminal opens none of it (D04)."""

COUNTER_PERMISSIONS = frozenset({_P.PAYMENTS_REVERSE, _P.PAYMENTS_REFUND, _P.PAYMENTS_RESOLVE, _P.PAYMENTS_OVERRIDE})
"""Acts at the counter that take the PIN of a person alone: the paired till that stands there is the second factor."""

ADMINISTRATOR_PERMISSIONS = frozenset(Permission) - {_P.ANNOUNCE}
"""The administrator of the machine itself, who reaches the hub's unix socket."""


def role_permissions(role: Role) -> frozenset[Permission]:
    """What a role allows."""
    return ROLE_PERMISSIONS[role]


def parse_role(text: str) -> Role:
    """Return the role with this name; raise `unknown_role`."""
    try:
        return Role(text)
    except ValueError:
        raise InvalidValueError(
            "unknown_role", "There is no role of this name.", remedy=f"Use one of: {', '.join(Role)}."
        ) from None


def device_permissions(kind: DeviceKind) -> frozenset[Permission]:
    """What a paired device may do with nobody signed in; devices that are not paired may do nothing."""
    if kind is DeviceKind.TILL:
        return TILL_PERMISSIONS
    if kind is DeviceKind.VIEWER:
        return ROLE_PERMISSIONS[Role.VIEWER]
    return frozenset()


def permissions_of(roles: frozenset[str]) -> frozenset[Permission]:
    """The union of what roles allow; names that this program does not know allow nothing."""
    known = {role.value for role in Role}
    return frozenset().union(*(ROLE_PERMISSIONS[Role(role)] for role in roles if role in known))
