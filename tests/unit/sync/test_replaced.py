"""A hub whose disk was copied to another machine, and the cloud's word about which of the two sells (ADR 13)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hubd.errors import HubError
from hubd.health import Problems
from hubd.model.replacement import InChain, Word, stops
from hubd.services.lines import LineReason, ensure_line
from hubd.services.replacement import ReplacementDesk
from hubd.store import lines, mirror, replay
from local_api.rivals import Heard, Rivals
from sync.cloud.keys import CloudKeys
from tests.rigs.process import wait_until
from tests.unit.sync.world import Hub, World, copy_of, make_runtime

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))


@dataclass
class Two:
    """The old hub, offline since it was copied, and the new one on the copy of its disk."""

    world: World
    old: Hub
    new: Hub

    @property
    def hub_id(self) -> bytes:
        return self.old.signer.hub_id

    async def replace(self, line: bytes, successor: bytes) -> None:
        await self.world.cloud.replace_line(self.hub_id, line, successor)


def desk(hub: Hub) -> ReplacementDesk:
    return ReplacementDesk(hub.db, hub.signer.hub_id)


async def kinds(hub: Hub) -> list[str]:
    return await hub.kinds("line.replaced")


async def epochs(hub: Hub) -> list[int | None]:
    return [line.epoch for line in await hub.read(lines.all_lines)]


@pytest.fixture
async def two(world: World) -> Two:
    old = await world.hub("old")
    await old.note("common", 5)
    async with old.online():
        await world.until(lambda: old.kinds("epoch.assigned"), "the old hub's epoch")
        await old.drained()
    path = await copy_of(old, world.place / "new.db")
    await old.note("only on the old one", 3)
    new = await world.hub("new", path=path)
    await ensure_line(new.db, new.signer, new.runtime, LineReason.REPLACED)
    async with new.online():
        await new.drained()
    for number, hub in enumerate((old, new)):
        hub.runtime = make_runtime(30 + number)  # what is online next is another start, as after a power cut
    return Two(world, old, new)


async def test_the_hub_learns_the_epoch_of_each_line_as_the_cloud_assigns_it(world: World) -> None:
    hub = await world.hub()
    assert await desk(hub).line_and_epoch() == (hub.db.head.line, None)
    async with hub.online():
        await world.until(lambda: hub.kinds("epoch.assigned"), "the first epoch")
        assert await desk(hub).line_and_epoch() == (hub.db.head.line, 1)
        await ensure_line(hub.db, hub.signer, hub.runtime, LineReason.STALE)
        assert await desk(hub).line_and_epoch() == (hub.db.head.line, None)

        async def second() -> bool:
            return await epochs(hub) == [1, 2]

        await wait_until(second, 15, "the second epoch")
    assert await desk(hub).line_and_epoch() == (hub.db.head.line, 2)


async def test_the_old_hub_stops_by_the_word_that_the_new_one_hands_on(two: Two) -> None:
    async with two.new.online():
        await two.replace(two.old.db.head.line, two.new.db.head.line)
        await two.world.until(lambda: kinds(two.new), "the word")
        assert await epochs(two.new) == [1, 3]
    assert not await desk(two.new).stopped()
    (word,) = await desk(two.new).words()
    assert not await desk(two.old).stopped()
    assert await desk(two.old).hear(word)
    assert await desk(two.old).stopped()
    assert not await desk(two.old).hear(word)
    assert len(await kinds(two.old)) == 1, "one word, one entry"
    await ensure_line(two.old.db, two.old.signer, two.old.runtime, LineReason.RESTORED)
    assert await desk(two.old).stopped(), "a line that it opens afterwards changes nothing"
    async with two.old.online():
        await two.old.drained()
    assert await two.world.holds(two.old), "what it took before is not lost"
    assert len(await kinds(two.old)) == 1, "the same word by the cloud's journal is no second entry"
    assert "two_starts" not in await two.world.incidents(two.old)
    assert not await two.old.read(mirror.dead_letters)
    for hub in (two.old, two.new):
        assert (await hub.read(replay.check)).ok


async def test_an_old_hub_that_is_online_stops_by_the_cloud_s_journal_alone(two: Two) -> None:
    await two.replace(two.old.db.head.line, two.new.db.head.line)
    async with two.old.online():
        await two.world.until(lambda: kinds(two.old), "the word")
        await two.old.drained()
    assert await desk(two.old).stopped()
    assert await two.world.holds(two.old)


async def test_a_line_opened_before_the_word_came_does_not_hide_which_hub_it_is(two: Two) -> None:
    await two.replace(two.old.db.head.line, two.new.db.head.line)
    await ensure_line(two.old.db, two.old.signer, two.old.runtime, LineReason.RESTORED)
    async with two.new.online():
        await two.world.until(lambda: kinds(two.new), "the word")
    await desk(two.old).hear((await desk(two.new).words())[0])
    assert await desk(two.old).stopped()


async def test_the_other_way_round_is_a_newer_word(two: Two) -> None:
    old, new = two.old.db.head.line, two.new.db.head.line
    await two.replace(old, new)
    await two.replace(old, new)
    await two.replace(new, old)
    async with two.new.online():
        await two.world.until(lambda: _count(two.new, 2), "both words")
    assert await desk(two.new).stopped()
    for word in await desk(two.new).words():  # the newest first: the order in which they are heard is no matter
        await desk(two.old).hear(word)
    assert not await desk(two.old).stopped()
    assert [word.epoch for word in await desk(two.old).words()] == [4, 3]


async def test_who_sells_may_change_back_and_forth(two: Two) -> None:
    old, new = two.old.db.head.line, two.new.db.head.line
    for line, successor in ((old, new), (new, old), (old, new)):
        await two.replace(line, successor)
    async with two.new.online():
        await two.world.until(lambda: _count(two.new, 3), "all three words")
    assert not await desk(two.new).stopped()
    assert [word.epoch for word in await desk(two.new).words()] == [5, 4, 3]


@pytest.mark.parametrize("old_first", [False, True])
async def test_both_online_raise_no_alarm_once_the_cloud_has_decided(two: Two, old_first: bool) -> None:
    places = two.old.db.head.line, two.new.db.head.line
    await two.replace(*places)
    first, second = (two.old, two.new) if old_first else (two.new, two.old)
    async with first.online():
        await two.world.until(lambda: kinds(first), "the word")
        async with second.online():
            await two.world.until(lambda: kinds(second), "the word, on the other one too")
            await second.drained()
            await first.note("still there")
            await first.drained()
            answered = first.sync.last_cloud_answer_monotonic
            await wait_until(lambda: first.sync.last_cloud_answer_monotonic != answered, 15, "a ping of the cloud")
    assert "two_starts" not in await two.world.incidents(two.old)
    assert (two.old.db.head.line, two.new.db.head.line) == places, "neither had to open a line"


async def _count(hub: Hub, wanted: int) -> bool:
    return len(await kinds(hub)) == wanted


def _forge(word: Word, **changed: Any) -> Word:
    return msgspec.structs.replace(word, **changed)


async def test_a_word_that_the_cloud_did_not_sign_writes_nothing(two: Two) -> None:
    await two.replace(two.old.db.head.line, two.new.db.head.line)
    async with two.new.online():
        await two.world.until(lambda: kinds(two.new), "the word")
    (word,) = await desk(two.new).words()
    other = CloudKeys(b"9" * 32, (b"8" * 32,))
    stranger = other.certificates()[0]
    forged = [
        _forge(word, epoch=word.epoch + 1),
        _forge(word, upto_seq=0),
        _forge(word, successor=C.hex()),
        _forge(word, hub=C.hex()),
        _forge(word, signature="00" * 64),
        _forge(word, signature="no hex"),
        _forge(word, key_id=stranger.key_id, public_key=stranger.public_key.hex()),
        _forge(word, root_signature=stranger.root_signature.hex()),
        _forge(word, epoch=-1),
        _forge(word, line="ab"),
    ]
    before = two.old.db.head
    for one in forged:
        with pytest.raises(HubError, match=r"sync\.invalid_word"):
            await desk(two.old).hear(one)
    assert two.old.db.head == before
    assert not await desk(two.old).stopped()


async def test_a_hub_that_belongs_to_no_cloud_believes_no_word(two: Two, tmp_path: Path) -> None:
    await two.replace(two.old.db.head.line, two.new.db.head.line)
    async with two.new.online():
        await two.world.until(lambda: kinds(two.new), "the word")
    (word,) = await desk(two.new).words()
    await two.old.db.write("test.unenrol", lambda tx: tx.execute("DELETE FROM enrolment"))
    with pytest.raises(HubError, match=r"sync\.invalid_word"):
        await desk(two.old).hear(word)


async def test_what_is_no_line_of_the_hub_cannot_be_replaced(two: Two) -> None:
    known = two.old.db.head.line
    for line, successor in ((known, C), (C, known), (known, known)):
        with pytest.raises(HubError, match=r"replace\.unknown_line"):
            await two.replace(line, successor)
    with pytest.raises(HubError, match=r"replace\.unknown_line"):
        await two.world.cloud.replace_line(C, known, two.new.db.head.line)


def word(upto_seq: int = 10) -> Word:
    """Line A by line B, which has A's entries up to `upto_seq`."""
    return Word("00" * 16, A.hex(), B.hex(), upto_seq, 2, 0, "", "", "", "")


@pytest.mark.parametrize(
    ("chain", "means"),
    [
        ([InChain(A, 10)], True),
        ([InChain(A, 15)], True),
        ([InChain(A, 15), InChain(C, 20)], True),
        ([InChain(A, 10), InChain(B, 20)], False),
        ([InChain(A, 10), InChain(B, 20), InChain(C, 30)], False),
        ([InChain(A, 10), InChain(C, 20)], None),
        ([InChain(C, 20)], None),
        ([InChain(C, 5), InChain(B, 20)], False),
    ],
    ids=["present", "went on", "went on, then another", "successor", "its child", "unclear", "other", "no ancestor"],
)
def test_what_a_word_means_for_a_hub_follows_from_its_own_chain(chain: list[InChain], means: bool | None) -> None:
    assert stops(word(), chain) is means


class Scripted:
    """What the other hub answers."""

    def __init__(self, *answers: list[Word] | OSError) -> None:
        self.answers = list(answers)
        self.asked: list[Heard] = []

    async def __call__(self, other: Heard) -> list[Word]:
        self.asked.append(other)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer


@asynccontextmanager
async def listening(hub: Hub, fetch: Scripted) -> AsyncIterator[tuple[Rivals, Problems]]:
    problems = Problems(hub.runtime.clock)
    rivals = Rivals(
        hub.runtime.clock, desk(hub), problems, fetch, lambda: "sync.two_starts" in dict(hub.sync.status.problems)
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(rivals.run(), name="rivals")
        yield rivals, problems
        running.cancel()


def codes(problems: Problems) -> list[str]:
    return [problem.code for problem in problems.present()]


async def test_a_clone_without_a_word_is_alarmed_and_asked_again_until_the_cloud_has_decided(two: Two) -> None:
    await two.replace(two.old.db.head.line, two.new.db.head.line)
    async with two.new.online():
        await two.world.until(lambda: kinds(two.new), "the word")
    signed = await desk(two.new).words()
    forged = [_forge(signed[0], upto_seq=0)]
    fetch = Scripted(ConnectionRefusedError("off"), [], forged, forged, signed)
    other = Heard(two.hub_id.hex(), two.new.db.head.line.hex(), 3, "", 8443, ("127.0.0.1",))
    async with listening(two.old, fetch) as (rivals, problems):
        rivals.heard(other)
        await wait_until(lambda: codes(problems) == ["hub.cloned"], 15, "the alarm")
        await wait_until(lambda: len(fetch.asked) >= 4, 15, "it to be asked again")
        assert codes(problems) == ["hub.cloned"]
        assert not await desk(two.old).stopped()
        await wait_until(desk(two.old).stopped, 15, "the word to be believed")
        await wait_until(lambda: codes(problems) == [], 15, "the alarm to end")


async def test_who_announces_no_higher_epoch_is_not_asked_and_a_replaced_one_is_no_alarm(two: Two) -> None:
    fetch = Scripted([])
    old = Heard(two.hub_id.hex(), two.old.db.head.line.hex(), 1, "", 8443, ("127.0.0.1",))
    async with listening(two.new, fetch) as (rivals, problems):
        rivals.heard(old)
        await wait_until(lambda: codes(problems) == ["hub.cloned"], 15, "the alarm")
        async with two.new.online():
            await two.replace(two.old.db.head.line, two.new.db.head.line)
            await two.world.until(lambda: kinds(two.new), "the word")
        await wait_until(lambda: codes(problems) == [], 15, "the alarm to end")
    assert fetch.asked == []


async def test_a_copy_that_only_the_cloud_has_met_is_alarmed_until_the_cloud_has_decided(two: Two) -> None:
    """On another network nobody hears its announcements."""
    async with listening(two.new, Scripted([])) as (_, problems), two.old.online(), two.new.online():
        await wait_until(lambda: codes(problems) == ["hub.cloned"], 20, "the alarm")
        await two.new.drained()
        await two.replace(two.old.db.head.line, two.new.db.head.line)
        await wait_until(lambda: codes(problems) == [], 20, "the alarm to end")
