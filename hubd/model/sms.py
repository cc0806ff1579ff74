"""Text messages by a modem (protocols, section 10): what became of one, and what came in."""

from __future__ import annotations

from msgspec import Struct


class SmsSent(Struct, frozen=True):
    """The network has taken every part; a delivery report names the same references."""

    references: tuple[int, ...]


class SmsRefused(Struct, frozen=True):
    """Nothing left. Trying again costs nothing, and helps unless it is `permanent`."""

    reason: str
    """`unreachable`, `busy`, `text_unusable`, or a driver's own word."""
    permanent: bool
    remedy: str = ""


class SmsUnknown(Struct, frozen=True):
    """It may have left, in part or in full: nobody sends it again without having looked (protocols, section 10)."""

    reason: str
    references: tuple[int, ...] = ()
    """Of the parts that certainly left."""


SmsOutcome = SmsSent | SmsRefused | SmsUnknown


class SmsReport(Struct, frozen=True):
    """What the network says of a message that was sent. References are small numbers that come round again."""

    reference: int
    number: str
    delivered: bool | None
    """None: it is still being tried."""


class IncomingSms(Struct, frozen=True):
    """A message, or one part of a long one, that is still stored in the modem."""

    number: str
    text: str
    sent_at: str
    """`YYMMDDhhmmss` and the zone in quarters of an hour (`+4`), by the service centre's clock."""
    reference: int = 0
    part: int = 1
    parts: int = 1


class ModemCondition(Struct, frozen=True):
    """What a modem said of its network when it was last asked."""

    registered: bool | None = None
    roaming: bool = False
    signal_dbm: int | None = None
