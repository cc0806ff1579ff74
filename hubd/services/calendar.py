"""Business dates: fixed at creation, by the location's zone and the minute at which its day begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hubd.errors import InvalidValueError

MINUTE_US = 60_000_000


def zone_of(name: str) -> ZoneInfo:
    """The time zone; raises `unknown_zone`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise InvalidValueError(
            "unknown_zone", "The time zone is not known.", remedy='Use a name such as "Europe/Paris".'
        ) from exc


def local_time(at_us: int, zone: str) -> datetime:
    """Wall time of a location, aware of its zone."""
    at = datetime.fromtimestamp(at_us / 1_000_000, UTC)
    return at if zone == "UTC" else at.astimezone(zone_of(zone))


def business_date(at_us: int, zone: str, day_starts_at_minute: int = 0) -> str:
    """The ISO date to which a sale at this moment belongs; a night before the day's start belongs to the day before."""
    return _business_date(at_us // MINUTE_US, zone, day_starts_at_minute)


@lru_cache(maxsize=256)
def _business_date(minute: int, zone: str, day_starts_at_minute: int) -> str:
    # Days, and the offsets of zones that are in use, begin on whole minutes: one answer serves a minute of sales.
    return (local_time(minute * MINUTE_US, zone) - timedelta(minutes=day_starts_at_minute)).date().isoformat()


def rfc3339(at_us: int, zone: str = "UTC") -> str:
    """Time with its zone's offset, to the microsecond where there are any."""
    return local_time(at_us, zone).isoformat()
