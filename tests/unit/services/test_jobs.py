"""Jobs: one of a name at a time, none after the end."""

from __future__ import annotations

import asyncio

from hubd.services.jobs import Jobs


async def test_a_job_that_comes_while_the_hub_stops_is_closed_and_nobody_fails() -> None:
    ran: list[str] = []

    async def job(name: str) -> None:
        ran.append(name)
        await asyncio.Event().wait()

    async with Jobs() as jobs:
        assert jobs.start("first", job("first"))
        assert not jobs.start("first", job("second"))
    assert not jobs.start("late", job("late"))
    assert jobs.running() == []
    assert set(ran) <= {"first"}
