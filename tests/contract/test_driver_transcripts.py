"""Dialogues whose bytes come from elsewhere, played to a driver byte by byte."""

from __future__ import annotations

import asyncio
import json
import random  # noqa: TID251 - a transcript is played to a driver with a Runtime made here
from pathlib import Path

import pytest

from drivers.base import TerminalDriver
from drivers.kit.memory_line import memory_pipe
from drivers.kit.transcript import NO_LINES, play
from drivers.kit.virtual_time import VirtualClock, run
from hubd.model.money import Money
from hubd.ports import AuthorizeRequest, Outcome
from hubd.runtime import Runtime
from tests.contract.terminal_bench import KINDS, REGISTRY
from tests.simulation.seeded import SeededIds

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*/*.json"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_transcript(path: Path) -> None:
    transcript = json.loads(path.read_text("utf-8"))
    amount = Money(transcript["amount"], transcript["currency"])

    async def main() -> Outcome:
        clock = VirtualClock()
        rng = random.Random(1)
        # What a driver draws (nonces, numbers of messages) stands in the transcript, so it is drawn from a seed.
        runtime = Runtime(clock, SeededIds(rng), rng, b"t" * 16)
        driver = REGISTRY.factory(path.parent.name)(runtime, transcript.get("options", {}))
        assert isinstance(driver, TerminalDriver)
        hub, device = memory_pipe()
        driver.attach(hub, f"{transcript['scheme']}://terminal:1", NO_LINES)
        async with asyncio.TaskGroup() as group:
            played = group.create_task(play(transcript["dialogue"], device), name="device")
            group.create_task(driver.pump(), name="pump")
            await driver.identify()
            await driver.baseline()
            outcome = await driver.authorize(AuthorizeRequest("payment-1", amount), lambda _: None)
            await played
            await driver.close()
        return outcome

    outcome = run(main())
    expected = dict(transcript["expect"])
    assert type(outcome).__name__ == expected.pop("outcome"), outcome
    evidence = getattr(outcome, "evidence", None)
    assert {name: getattr(evidence, name) for name in expected} == expected


def test_every_driver_has_transcripts() -> None:
    assert {path.parent.name for path in TRANSCRIPTS} == set(KINDS)
