"""Guards around every test: no blocking call in the event loop, no task or thread left behind, no broken log call.

A test that must block marks itself `@pytest.mark.blocking_allowed("why")`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import logging
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

import blockbuster.blockbuster as blockbuster_module
import hypothesis
import pytest
from blockbuster import BlockBuster, BlockingError

SHIPPED = ("hubd", "drivers", "sync", "local_api")
LAYERS_THAT_MAY_BLOCK = {
    "simulation": "the database runs inline there, on a loop whose time is virtual",
    "tidy": "they read source files and run no loop",
}
TASK_GRACE_S = 0.5  # for callbacks of a closing connection; nothing waits when nothing is left over
THREAD_GRACE_S = 2.0

# A busy machine is not a wrong answer: neither a slow example nor slow drawing fails a test, its own timeout does.
hypothesis.settings.register_profile("hubd", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("hubd")

_threads_before = pytest.StashKey[frozenset[threading.Thread]]()


# -- blocking calls ----------------------------------------------------------------------------------------------------


class RecordedBlockingError(BlockingError):
    """Remembers where it happened: the test fails even if the code under test caught it."""

    seen: ClassVar[list[str]] = []

    def __init__(self, func: str) -> None:
        super().__init__(func)
        hub_frames = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(_root())]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(hub_frames[-6:]))
        self.seen.append(f"{func} in {where}")


def _root() -> Path:
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def blocking_guard() -> Iterator[BlockBuster]:
    """Make blocking calls under our own code raise while a loop runs in the same thread."""
    original = blockbuster_module.BlockingError
    blockbuster_module.BlockingError = RecordedBlockingError  # type: ignore[misc]  # the wrappers look it up by this name
    guard = BlockBuster([name for name in SHIPPED if importlib.util.find_spec(name)])
    # A log line is written by its handler where it arises; journald and stderr take it without waiting for a disk.
    for function in ("io.TextIOWrapper.write", "io.BufferedWriter.write", "os.write", "threading.Lock.acquire"):
        guard.functions[function].can_block_in("logging/__init__.py", {"handle", "emit", "acquire"})
    # An import inside a function finds its file once; the second time it is in memory.
    for function in ("os.stat", "os.listdir", "io.BufferedReader.read", "os.getcwd"):
        guard.functions[function].can_block_in("<frozen importlib._bootstrap>", {"_find_and_load"})
    guard.activate()
    yield guard
    guard.deactivate()
    blockbuster_module.BlockingError = original  # type: ignore[misc]  # puts back what was replaced above


def _may_block(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("blocking_allowed")
    if marker is not None:
        assert len(marker.args) == 1, "blocking_allowed takes one thing: its reason"
        return True
    relative = item.path.relative_to(_root())
    return len(relative.parts) > 1 and relative.parts[1] in LAYERS_THAT_MAY_BLOCK


@pytest.fixture(autouse=True)
def no_blocking_call_in_the_loop(request: pytest.FixtureRequest, blocking_guard: BlockBuster) -> Iterator[None]:
    """Fail the test if our code blocked the loop, unless the test or its layer is allowed to."""
    if _may_block(request.node):
        blocking_guard.deactivate()
        yield
        blocking_guard.activate()
        return
    RecordedBlockingError.seen.clear()
    yield
    if RecordedBlockingError.seen:
        pytest.fail("blocked the event loop: " + "; ".join(RecordedBlockingError.seen), pytrace=False)


# -- tasks and threads -------------------------------------------------------------------------------------------------


@pytest.fixture
async def _tasks_of_the_loop() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=TASK_GRACE_S)
    if left:
        names = sorted(f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})" for task in left)
        pytest.fail("left tasks running: " + ", ".join(names), pytrace=False)


@pytest.fixture(autouse=True)
def no_task_left_behind(request: pytest.FixtureRequest) -> None:
    """Look at the loop of an asynchronous test after all its other fixtures are gone."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_tasks_of_the_loop")


@pytest.fixture(autouse=True)
def threads_before_the_test(request: pytest.FixtureRequest) -> None:
    """Remember the threads that wider fixtures have started; only later ones must be gone at the end."""
    request.node.stash[_threads_before] = frozenset(threading.enumerate())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """No thread left behind: looked at last, when the loop has closed and its executor with it."""
    yield
    before = item.stash.get(_threads_before, None)
    if before is None:
        return
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(THREAD_GRACE_S)
    alive = sorted(thread.name for thread in left if thread.is_alive())
    if alive:
        pytest.fail("left threads running: " + ", ".join(alive), pytrace=False)


# -- log calls ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def broken_log_calls() -> Iterator[list[str]]:
    """Format every record of our loggers as it is made, whichever handler would have looked at it later."""
    broken: list[str] = []
    make = logging.getLogRecordFactory()

    def make_and_format(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            record.getMessage()
        except (TypeError, ValueError, KeyError) as error:
            broken.append(f"{record.pathname}:{record.lineno}: {record.msg!r} with {record.args!r}: {error}")
        return record

    logging.setLogRecordFactory(make_and_format)
    yield broken
    logging.setLogRecordFactory(make)


@pytest.fixture(autouse=True)
def no_broken_log_call(request: pytest.FixtureRequest, broken_log_calls: list[str]) -> Iterator[None]:
    """Let our loggers speak at every level, so that a call nobody enables in production is formatted here."""
    broken_log_calls.clear()
    relative = request.node.path.relative_to(_root())
    levels = {name: logging.getLogger(name).level for name in SHIPPED}
    if relative.parts[1] not in LAYERS_THAT_MAY_BLOCK:  # a simulated week would keep its every line in memory
        for name in SHIPPED:
            logging.getLogger(name).setLevel(logging.DEBUG)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    if broken_log_calls:
        pytest.fail("log calls that cannot be formatted: " + "; ".join(broken_log_calls), pytrace=False)
