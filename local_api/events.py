"""Events: journal entries seen through a schema, with `line:seq` as id, and notices without id, never stored.

Each entry is rendered once, whoever follows, and a follower who has heard everything gets the next text straight from
the feed, framed once for all (local_api/direct.py). One who is behind, or whose connection is full, reads on from his
own place by himself. One who has lost the thread is told `resync`: read the lists again, then follow from the place
that the event names.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import msgspec

from hubd.model.entry import Entry
from hubd.model.permissions import Permission
from hubd.services.access import AccessDesk, Caller
from hubd.services.calendar import rfc3339
from hubd.services.feed import Feed, News, Notice, Place
from local_api.direct import DirectStream, framed

_Sight = tuple[frozenset[Permission], str, tuple[tuple[str, frozenset[Permission]], ...], str]
RENDERED_MAX = 4_000
TEXTS_MAX = 64
SEQ_DIGITS_MAX = 16

_P = Permission
SHOWN: dict[str, tuple[Permission, tuple[str, ...]]] = {
    # kind's first word -> who may see it, and which fields of the body
    "payment": (
        _P.PAYMENTS_READ,
        (
            "amount",
            "tip",
            "rounding",
            "currency",
            "tender",
            "method",
            "mode",
            "kind",
            "custody",
            "order",
            "original",
            "device",
            "terminal",
            "staff",
            "location",
            "business_date",
            "outage",
            "reason",
            "manual",
            "series",
            "counter",
        ),
    ),
    "order": (
        _P.ORDERS_READ,
        ("amount", "currency", "device", "staff", "location", "business_date", "series", "counter", "reason", "paid"),
    ),
    "device": (_P.DEVICES_READ, ("kind", "name", "location", "role", "reason")),
    "end_of_day": (_P.TOTALS_READ, ("count", "total", "currency", "stored_count", "location", "business_date")),
    "outage": (_P.OUTAGES_READ, ("cause", "started_at_us", "ended_at_us", "terminal")),
    "statement": (_P.TOTALS_READ, ("agrees",)),
    "location": (_P.LOCATIONS_READ, ("name", "zone", "currency", "country")),
    "setting": (_P.SETTINGS_READ, ("key", "scope", "version", "source", "effective_from_us", "value")),
    "line": (_P.HUB_READ, ("reason", "parent", "successor", "stops")),
    "clock": (_P.HUB_READ, ()),
    "hub": (_P.HUB_READ, ()),
    "epoch": (_P.SYNC_READ, ("epoch",)),
    "backup": (_P.BACKUPS_READ, ()),
    "staff": (_P.STAFF_READ, ("language",)),
    "grant": (_P.STAFF_READ, ("location", "role")),
    "print": (_P.PRINT, ("title", "printer", "payment", "reason")),
    "override": (_P.PAYMENTS_READ, ("rule", "payment", "overrides")),
}
"""Kinds whose first word is not here are no events: they are the journal's own bookkeeping."""
NOTICES: dict[str, Permission] = {
    "pairing.changed": _P.PAIRINGS_MANAGE,
    "device.state": _P.DEVICES_READ,
    "endpoints.changed": _P.DEVICES_READ,
    "scan": _P.DEVICES_READ,
    "weight": _P.DEVICES_READ,
    "payment.prompt": _P.PAYMENTS_READ,
    "mode.changed": _P.HUB_READ,
    "problems.changed": _P.PROBLEMS_READ,
}


class Event(msgspec.Struct, frozen=True):
    """What a follower gets. `id` is `line:seq` for entries and absent for what is not stored."""

    kind: str
    subject: str
    data: dict[str, Any]
    id: str | None = None
    hash: str | None = None
    at: str | None = None
    actor: str | None = None


def event_of(entry: Entry) -> Event | None:
    """An entry as an event; None for the journal's own bookkeeping."""
    shown = SHOWN.get(entry.kind.partition(".")[0])
    if shown is None:
        return None
    head, body = entry.head, entry.body()
    data = {name: body[name] for name in shown[1] if body.get(name) is not None}
    return Event(
        entry.kind,
        head.subject,
        data,
        f"{entry.line.hex()}:{entry.seq}",
        entry.hash.hex(),
        rfc3339(head.at_us),
        head.actor,
    )


LOCATED = frozenset({"payment", "order", "end_of_day"})
"""Kinds, by their first word, that are told only to those who may see them at the location that they name."""


def may_see(kind: str, location: str, caller: Caller) -> bool:
    """Whether a caller gets events of this kind about this location; an empty one is the whole store's."""
    word = kind.partition(".")[0]
    shown = SHOWN.get(word)
    if shown is None:
        return False
    return caller.may_at(shown[0], location) if location and word in LOCATED else caller.may(shown[0])


def _sight(caller: Caller, *, notices: bool) -> _Sight:
    """Followers for whom this is the same are sent the same."""
    return caller.permissions, caller.location, caller.elsewhere, caller.device if notices else ""


@dataclass(eq=False, slots=True)
class _Abreast:
    """A follower who has heard everything up to now; `over` wakes him when he must go on by himself."""

    direct: DirectStream
    caller: Caller
    over: asyncio.Future[Place]


def meant_for(notice: Notice, caller: Caller) -> bool:
    """Whether a notice is told to this caller: to one till only, or to those who may see it at its location."""
    needed = NOTICES.get(notice.name)
    if needed is None or (notice.till and notice.till != caller.device):
        return False
    return caller.may_at(needed, notice.location) if notice.location else caller.may(needed)


def _notice_text(notice: Notice) -> bytes:
    data = msgspec.json.encode(Event(notice.name, notice.subject, notice.data))
    return b"event: %s\ndata: %s\n\n" % (notice.name.encode(), data)


class Events:
    """Renders and streams. One for the whole API, so that two hundred followers cost one rendering."""

    def __init__(self, feed: Feed, access: AccessDesk) -> None:
        self._feed = feed
        self._access = access
        self._rendered: OrderedDict[int, tuple[bytes, str]] = OrderedDict()
        """Entries as text, each with the location that it is about."""
        self._texts: dict[tuple[Place, Place, _Sight], bytes] = {}
        """What followers who stand at one place and may see the same are sent next: made once for all of them."""
        self._abreast: set[_Abreast] = set()
        self._place = feed.place
        """Where all stand who are abreast."""
        feed.on_rouse(self._fan_out)

    async def start(self, after: str) -> tuple[Place, bool]:
        """Where a follower goes on behind SEQ or LINE:SEQ, and whether he must read the lists again first."""
        if not after:
            return self._feed.place, False
        line, _, seq = after.rpartition(":")
        known = len(line) in {0, 32} and seq.isascii() and seq.isdigit() and len(seq) <= SEQ_DIGITS_MAX
        place = await self._feed.resume(line, int(seq)) if known else None
        return (place, False) if place is not None else (self._feed.place, True)

    async def sse(
        self, caller: Caller, place: Place, lost: bool, direct: DirectStream | None = None
    ) -> AsyncGenerator[bytes]:
        """Server-sent events until the hub stops or the follower leaves; what goes to `direct` is not yielded."""
        yield b"retry: 1000\n\n"
        if lost:
            yield self._resync(place)
        while not self._feed.stopped:
            if direct is not None and place == self._place:
                place = await self._keep_abreast(direct, caller)
                if not await self._access.is_current(caller):
                    return  # as below
                continue
            news = await self._feed.news(place)
            if not await self._access.is_current(caller):
                return  # the device was removed, or the person: nothing more for them
            text = self._resync(news.place) if news.lost else self._text_after(place, news, caller)
            place = news.place
            yield text or b": ping\n\n"
        yield b"event: stopping\ndata: {}\n\n"

    async def scans(self, caller: Caller) -> AsyncGenerator[bytes]:
        """What the scanners of the calling till read from now on, as server-sent events, until the hub stops."""
        yield b"retry: 1000\n\n"
        place = self._feed.place
        while not self._feed.stopped:
            news = await self._feed.news(place)
            if not await self._access.is_current(caller):
                return
            place = news.place
            heard = (one for one in news.notices if one.name == "scan" and meant_for(one, caller))
            yield b"".join(map(_notice_text, heard)) or b": ping\n\n"
        yield b"event: stopping\ndata: {}\n\n"

    async def _keep_abreast(self, direct: DirectStream, caller: Caller) -> Place:
        """Send what is new straight away, until that is not possible; returns the place up to which it was sent."""
        one = _Abreast(direct, caller, asyncio.get_running_loop().create_future())
        self._abreast.add(one)
        try:
            return await one.over
        finally:
            self._abreast.discard(one)

    def _fan_out(self) -> None:
        """Write what is new to everybody who is abreast: one loop over connections, no task wakes for it."""
        before = self._place
        news = self._feed.news_in_memory(before)
        self._place = self._feed.place
        chunks: dict[_Sight, bytes] = {}
        together = news is not None and news.place == self._place and not self._feed.stopped
        for one in list(self._abreast):
            caller = one.caller
            if news is None or not together or not self._access.is_surely_current(caller):
                self._leave(one, before)
                continue
            key = _sight(caller, notices=bool(news.notices))
            chunk = chunks.get(key)
            if chunk is None:
                quiet = b": ping\n\n" if news.place == before else b""
                text = self._text(news, caller) or quiet
                chunk = chunks[key] = framed(text) if text else b""
            if chunk and not one.direct.write(chunk):
                self._leave(one, before)

    def _leave(self, one: _Abreast, place: Place) -> None:
        self._abreast.discard(one)
        if not one.over.done():
            one.over.set_result(place)

    async def messages(self, caller: Caller, place: Place, lost: bool) -> AsyncGenerator[bytes]:
        """The same for a WebSocket: one JSON text a message."""
        if lost:
            yield msgspec.json.encode(self._resync_event(place))
        while not self._feed.stopped:
            news = await self._feed.news(place)
            if not await self._access.is_current(caller):
                return  # the device was removed, or the person: nothing more for them
            place = news.place
            if news.lost:
                yield msgspec.json.encode(self._resync_event(place))
            for entry in news.entries:
                text = self._seen_by(entry, caller)
                if text:
                    yield text
            for notice in news.notices:
                if meant_for(notice, caller):
                    yield msgspec.json.encode(Event(notice.name, notice.subject, notice.data))

    def _text_after(self, place: Place, news: News, caller: Caller) -> bytes:
        key = place, news.place, _sight(caller, notices=bool(news.notices))
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) >= TEXTS_MAX:
                self._texts.clear()
            text = self._texts[key] = self._text(news, caller)
        return text

    def _text(self, news: News, caller: Caller) -> bytes:
        parts = [
            b"id: %s:%d\nevent: %s\ndata: %s\n\n" % (entry.line.hex().encode(), entry.seq, entry.kind.encode(), text)
            for entry in news.entries
            if (text := self._seen_by(entry, caller))
        ]
        for notice in news.notices:
            if meant_for(notice, caller):
                parts.append(_notice_text(notice))
        return b"".join(parts)

    def _seen_by(self, entry: Entry, caller: Caller) -> bytes:
        """An entry as text; empty when the caller may not see it."""
        rendered = self._rendered.get(entry.seq)
        if rendered is None:
            # Rendered also for one who may not see it: the location has to be read, once for all.
            event = event_of(entry)
            if event is None:
                return b""
            rendered = msgspec.json.encode(event), str(event.data.get("location", ""))
            self._rendered[entry.seq] = rendered
            if len(self._rendered) > RENDERED_MAX:
                self._rendered.popitem(last=False)
        text, location = rendered
        return text if may_see(entry.kind, location, caller) else b""

    def _resync_event(self, place: Place) -> Event:
        return Event("resync", "", {"hub_line": self._feed.hub_line, "seq": place.seq})

    def _resync(self, place: Place) -> bytes:
        return b"event: resync\ndata: %s\n\n" % msgspec.json.encode(self._resync_event(place))
