"""Other hubs on the network that announce this hub's id: a clone to be alarmed about, or the one that replaced us.

Who announces more is not believed for it: with a higher epoch he is asked for the cloud's signed word, and only a word
that holds and names our own line stops this hub (`hubd.services.replacement`). Without one there is only an alarm.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from hubd.errors import SyncError
from hubd.health import Problems
from hubd.loading import load
from hubd.model.replacement import Word
from hubd.runtime import Clock
from hubd.services.replacement import WORDS_MAX, ReplacementDesk

log = logging.getLogger(__name__)

WORDS_PATH = "/v1/hub/replacements"
ASK_EVERY_S = 30.0
"""The cloud may decide long after both hubs are there."""
RIVALS_MAX = 8
ANSWER_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024


class Heard(msgspec.Struct, frozen=True):
    """Another hub's record, or a clone's: same hub, another line."""

    hub_id: str
    line: str
    epoch: int | None
    fingerprint: str
    port: int = 0
    addresses: tuple[str, ...] = ()


Fetch = Callable[[Heard], Awaitable[Sequence[Word]]]


class Words(msgspec.Struct, frozen=True):
    """The answer of `GET /v1/hub/replacements`."""

    words: list[Word]


async def fetch_words(other: Heard) -> Sequence[Word]:
    """What a hub in this network was told by the cloud. Raises OSError when it does not answer or answers nonsense.

    Only private addresses are asked. The certificate is not checked: a word is proof by its own signature, and nothing
    of ours is sent.
    """
    private = [one for one in other.addresses if ipaddress.ip_address(one).is_private]
    if not private:
        raise ConnectionRefusedError("the other hub announces no address of this network")
    await load("httpx2", "httpcore2")  # the first imports the second at its first connection, in the event loop
    import httpx2

    tls = await asyncio.to_thread(_no_checks)
    try:
        async with httpx2.AsyncClient(timeout=ANSWER_S, verify=tls, trust_env=False) as client:
            url = f"https://{private[0]}:{other.port}{WORDS_PATH}"
            async with client.stream("GET", url) as answer:
                raw = b""
                async for chunk in answer.aiter_bytes():
                    raw += chunk
                    if len(raw) > ANSWER_BYTES_MAX:
                        raise ConnectionAbortedError("the other hub's answer has no end")
                if answer.status_code != 200:
                    raise ConnectionAbortedError(f"the other hub answers {answer.status_code}")
                return msgspec.json.decode(raw, type=Words).words[:WORDS_MAX]
    except (httpx2.HTTPError, msgspec.DecodeError) as exc:
        raise ConnectionAbortedError(f"the other hub cannot be asked: {type(exc).__name__}") from exc


def _no_checks() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Rivals:
    """Asks for the cloud's word and keeps the problem `hub.cloned` in step. `run` belongs to the supervisor."""

    def __init__(
        self,
        clock: Clock,
        desk: ReplacementDesk,
        problems: Problems,
        fetch: Fetch = fetch_words,
        told_by_cloud: Callable[[], bool] = lambda: False,
    ) -> None:
        """`told_by_cloud`: whether the cloud has met a second device with this hub's key, on whatever network."""
        self._told_by_cloud = told_by_cloud
        self._clock = clock
        self._desk = desk
        self._problems = problems
        self._fetch = fetch
        self._present: dict[str, Heard] = {}
        self._news = asyncio.Event()

    def heard(self, other: Heard) -> None:
        """Another line announces our id."""
        self._present.pop(other.line, None)
        while len(self._present) >= RIVALS_MAX:
            self._present.pop(next(iter(self._present)))
        self._present[other.line] = other
        log.warning("hub.clone_heard", extra={"line": other.line, "epoch": other.epoch})
        self._news.set()

    async def run(self) -> None:
        """Look at who was heard, at once and again for as long as they are there."""
        while True:
            clones = [other for other in list(self._present.values()) if await self._is_clone(other)]
            self._problems.set(bool(clones) or await self._met_by_cloud(), "hub.cloned")
            self._news.clear()
            try:
                async with self._clock.timeout(ASK_EVERY_S):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _met_by_cloud(self) -> bool:
        """Whether the cloud knows of a second device and has not yet decided which of the two sells."""
        if not self._told_by_cloud() or await self._desk.stopped():
            return False
        line, _ = await self._desk.line_and_epoch()
        return not any(word.successor == line.hex() for word in await self._desk.words())

    async def _is_clone(self, other: Heard) -> bool:
        """Whether nothing that the cloud has signed explains why the other one is there."""
        line, epoch = await self._desk.line_and_epoch()
        if other.line == line.hex():
            self._present.pop(other.line, None)  # our own: the line was opened while the record was on its way
            return False
        if (other.epoch or 0) > (epoch or 0):
            await self._ask(other)
        return not (await self._desk.stopped() or await self._is_replaced(other))

    async def _is_replaced(self, other: Heard) -> bool:
        """Whether the cloud has said of that line that another one sells in its place."""
        newest = next((word for word in await self._desk.words() if other.line in {word.line, word.successor}), None)
        return newest is not None and newest.line == other.line

    async def _ask(self, other: Heard) -> None:
        try:
            words = await self._fetch(other)
        except OSError as exc:
            log.info("hub.word_not_heard", extra={"line": other.line, "reason": str(exc)})
            return
        for word in sorted(words, key=lambda one: one.epoch):
            try:
                if await self._desk.hear(word):
                    log.warning("hub.word_heard", extra={"line": word.line, "epoch": word.epoch})
            except SyncError as exc:
                log.warning("hub.word_refused", extra={"line": other.line, "code": exc.code})
