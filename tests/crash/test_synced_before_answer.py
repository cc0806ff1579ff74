"""strace of a hub taking one payment: its log is synced before a byte of the 2xx answer leaves (promise 1)."""

from __future__ import annotations

import asyncio
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from local_api.client import new_id
from tests.crash.store import STEP_TIMEOUT_S, Nursery, Store, open_store
from tests.rigs.process import Child, require_tool, wait_until

pytestmark = pytest.mark.timeout(120)

CALLS = "fsync,fdatasync,sync_file_range,write,writev,pwrite64,pwritev,sendto,sendmsg,send"
WAL = "hub.db-wal"
# 12345 1719.000001 pwrite64(12</data/hub.db-wal>, "…", 4096, 0) = 4096
CALL = re.compile(r"^\d+\s+[\d.]+ (\w+)\((\d+)<([^>]*)>(.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """One call that has returned, in the order of its return."""

    name: str
    file: str
    rest: str


def read_calls(text: str) -> list[Call]:
    """Parse `strace -f -y`. A call that strace shows in two halves counts where its second half stands."""
    calls: list[Call] = []
    halves: dict[str, str] = {}
    for line in text.splitlines():
        pid = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            halves[pid] = line.removesuffix("<unfinished ...>")
            # What leaves the process leaves when the call begins; only a sync counts from its end.
            if "sync" in line:
                continue
            del halves[pid]
        elif " resumed>" in line:
            first = halves.pop(pid, None)
            if first is None:
                continue
            line = first + line.partition(" resumed>")[2]
        match = CALL.match(line)
        if match:
            calls.append(Call(match[1], match[3], match[4]))
    return calls


def places(calls: list[Call], payment: str) -> tuple[int, int, int]:
    """Where the payment's bytes went into the log, where the log was synced after that, where its answer left."""
    written = next(i for i, one in enumerate(calls) if one.file.endswith(WAL) and payment in one.rest)
    synced = next(
        i
        for i, one in enumerate(calls)
        if i > written and one.file.endswith(WAL) and one.name in {"fsync", "fdatasync"}
    )
    answered = next(i for i, one in enumerate(calls) if "HTTP/1.1 201" in one.rest)
    return written, synced, answered


async def pay_once(store: Store) -> str:
    """One cash payment over plain HTTP on loopback, so that the answer can be read in the trace."""
    payment = new_id()
    body = {"amount": {"amount": 1250, "currency": "EUR"}, "tender": "cash"}
    token = {"authorization": f"Bearer {store.tills[0].credential.token}"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{store.http_port}") as client:
        answer = await client.put(f"/v1/payments/{payment}", json=body, headers=token)
    assert answer.status_code == 201, answer.text
    return payment


async def traced_payment(store: Store, trace: Path) -> tuple[list[Call], str]:
    """Attach strace to the running hub, take one payment, and return what it did."""
    command = [require_tool("strace", "strace"), "-f", "-ttt", "-y", "-s", "65536", "-e", f"trace={CALLS}"]
    with Child([*command, "-o", trace, "-p", str(store.process.pid)], stop_signal=signal.SIGINT) as strace:
        await asyncio.to_thread(strace.wait_for_text, "attached", STEP_TIMEOUT_S)
        payment = await pay_once(store)
        await wait_until(lambda: "HTTP/1.1 201" in trace.read_text("utf-8", "replace"), STEP_TIMEOUT_S, "the trace")
        strace.signal(signal.SIGINT)
        await wait_until(lambda: not strace.running, STEP_TIMEOUT_S, "strace to let go")
    return read_calls(await asyncio.to_thread(trace.read_text, "utf-8", "replace")), payment


async def test_the_journal_is_synced_before_the_answer_leaves(tmp_path: Path, nursery: Nursery) -> None:
    async with open_store({}, tills=1, nursery=nursery) as store:
        calls, payment = await traced_payment(store, tmp_path / "trace")
        written, synced, answered = places(calls, payment)
        assert written < synced < answered


async def test_the_control_that_never_syncs_is_caught(tmp_path: Path, nursery: Nursery) -> None:
    """The same trace of a hub whose SQLite flushes nothing: the assertion above would have failed."""
    async with open_store({}, tills=1, nursery=nursery, wrappers="never-sync") as store:
        calls, payment = await traced_payment(store, tmp_path / "trace")
        with pytest.raises(StopIteration):
            places(calls, payment)
