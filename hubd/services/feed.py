"""The event feed: the journal's new entries, and notices that are not stored, for everybody who follows.

One task reads each new entry once and keeps the latest in memory. Followers pull from their own place, so a slow one
costs nothing but the entries it has yet to read; one that is too far behind is told to start again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from hubd.model.entry import Entry
from hubd.runtime import Runtime
from hubd.store import journal
from hubd.store.db import Database

RECENT_MAX = 2_000
NOTICES_MAX = 500
BATCH_MAX = 200
BEAT_S = 15.0
"""A follower who hears nothing for so long is told that the stream lives."""
BEHIND_MAX = 10_000
"""A follower further behind than this is told to read the lists again instead of every entry."""


class Notice(Struct, frozen=True):
    """Something that is seen once and not stored: a prompt of a terminal, a device's state."""

    number: int
    name: str
    subject: str
    data: dict[str, Any]
    till: str = ""
    """Only for this till; empty: for everybody."""
    location: str = ""
    """Only for those who may see it there; empty: it is the whole store's."""


class Place(Struct, frozen=True):
    """How far a follower has come: the last entry and the last notice it has."""

    seq: int
    notice: int


class News(Struct, frozen=True):
    """What came after a place, oldest first, and the place after it. `lost` tells to read the lists again."""

    entries: tuple[Entry, ...]
    notices: tuple[Notice, ...]
    place: Place
    lost: bool = False


class Feed:
    """Wakes those who follow the journal. `run` belongs to the supervisor."""

    def __init__(self, db: Database, runtime: Runtime) -> None:
        self._db = db
        self._runtime = runtime
        self._recent: deque[Entry] = deque(maxlen=RECENT_MAX)
        self._notices: deque[Notice] = deque(maxlen=NOTICES_MAX)
        self._notice_number = 0
        self._seq = db.head.seq
        self._wake = asyncio.Event()
        self._listeners: list[tuple[tuple[str, ...], Callable[[Entry], None]]] = []
        self._roused: list[Callable[[], None]] = []
        self.stopped = False

    @property
    def hub_line(self) -> str:
        """`line:seq:start` of this moment, for the header `Hub-Line`."""
        head = self._db.head
        return f"{head.line.hex()}:{head.seq}:{self._runtime.start_id}"

    @property
    def place(self) -> Place:
        """The newest place."""
        return Place(self._seq, self._notice_number)

    def listen(self, kinds: tuple[str, ...], listener: Callable[[Entry], None]) -> None:
        """Call `listener(entry)` for each new entry whose kind begins with one of `kinds`."""
        self._listeners.append((kinds, listener))

    def on_rouse(self, listener: Callable[[], None]) -> None:
        """Call `listener()` whenever followers are roused: after something new, at the beat, and at the stop."""
        self._roused.append(listener)

    def tell(self, name: str, subject: str, data: dict[str, Any], till: str = "", location: str = "") -> None:
        """Give a notice to those who follow at this moment and whom it concerns; it is not stored."""
        self._notice_number += 1
        self._notices.append(Notice(self._notice_number, name, subject, data, till, location))
        self._rouse()

    def stop(self) -> None:
        """End every stream; called before the server stops, which would wait for them."""
        self.stopped = True
        self._rouse()

    async def run(self) -> None:
        """Read new entries for ever, and wake quiet followers now and then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(), name="feed.read")
            group.create_task(self._beat(), name="feed.beat")

    async def _beat(self) -> None:
        """One timer for all followers: a timeout for each would cost more than what they are sent."""
        while True:
            await self._runtime.clock.sleep(BEAT_S)
            self._rouse()

    async def _read(self) -> None:
        while True:
            await self._db.moved_beyond(self._seq)
            entries = self._db.fresh_after(self._seq, BATCH_MAX)
            if entries is None:
                entries = await self._db.read("feed", partial(journal.entries_after, seq=self._seq, limit=BATCH_MAX))
            for entry in entries:
                self._recent.append(entry)
                self._seq = entry.seq
                for kinds, listener in self._listeners:
                    if entry.kind.startswith(kinds):
                        listener(entry)
            self._rouse()

    async def resume(self, line: str, seq: int) -> Place | None:
        """The place after the entry `seq` of `line`, or None if it is not in this hub's chain or was archived."""
        if not 0 <= seq <= self._db.head.seq:
            return None
        if seq == 0:
            return Place(0, self._notice_number)
        wrote = await self._db.read("feed.line", lambda connection: journal.line_at(connection, seq))
        known = await self._db.read("feed.hash", lambda connection: journal.hash_at(connection, seq))
        if wrote is None or known is None or (line and wrote.hex() != line):
            return None
        return Place(min(seq, self._seq), self._notice_number)

    async def news(self, place: Place) -> News:
        """What came after `place`; waits for something to come, at most `BEAT_S`. Empty when nothing did."""
        await self.until_news(place)
        if self._seq - place.seq > BEHIND_MAX:
            return News((), (), self.place, lost=True)
        entries = self._entries_in_memory(place.seq)
        if entries is None:
            older = partial(journal.entries_after, seq=place.seq, limit=BATCH_MAX)
            entries = tuple(await self._db.read("feed.older", older))
        return self._news(place, entries)

    async def until_news(self, place: Place) -> None:
        """Return once something has come after `place`, after `BEAT_S` at most."""
        if not self._has_news(place):
            await self._wake.wait()

    def news_in_memory(self, place: Place) -> News | None:
        """What came after `place`, without waiting; None when more is missing than the memory holds."""
        entries = self._entries_in_memory(place.seq)
        return self._news(place, entries) if entries is not None else None

    def _news(self, place: Place, entries: tuple[Entry, ...]) -> News:
        told = self._notice_number > place.notice
        notices = tuple(notice for notice in self._notices if notice.number > place.notice) if told else ()
        return News(
            entries,
            notices,
            Place(entries[-1].seq if entries else place.seq, notices[-1].number if notices else place.notice),
        )

    def _has_news(self, place: Place) -> bool:
        return self.stopped or self._seq > place.seq or self._notice_number > place.notice

    def _entries_in_memory(self, seq: int) -> tuple[Entry, ...] | None:
        if self._seq <= seq:
            return ()
        if self._recent and self._recent[0].seq <= seq + 1:
            first = seq + 1 - self._recent[0].seq
            return tuple(self._recent[at] for at in range(first, min(first + BATCH_MAX, len(self._recent))))
        return None

    def _rouse(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()
        for listener in self._roused:
            listener()
