"""`hubd run` in a process that kills itself at a named step. The product has no switch for it: it is wrapped here.

    python -m tests.crash.doomed ORDERS run --config hubd.toml
    python -m tests.crash.doomed small-disk,never-sync run --config hubd.toml

ORDERS is a file that the test writes while the hub runs: `WHEN:NAME#N`, the N-th time from then on. NAME is the name
of a `Database.write` (payment.take, payment.started, payment.outcome, payment.reversal, flush.move, …) or a method of
the terminal (authorize, reverse, send_offline, enquire) or of the printer (print); WHEN is

before     it is about to be asked for
inside     a write only: the rows are changed, COMMIT has not begun
committed  a write only: COMMIT has returned in the database thread, nobody has been told
during     a terminal only: it has said that it works (its first progress)
after      it is done and its caller is about to go on; no answer has left
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

TERMINAL_METHODS = ("authorize", "reverse", "send_offline", "enquire")
PRINTER_METHODS = ("print",)


class Orders:
    """What the test wants, read anew at every step: it may change while the hub runs."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._order = ""
        self._left = 0

    def reached(self, when: str, name: str) -> None:
        """Die if this is the step."""
        try:
            order = self._file.read_text("ascii")
        except FileNotFoundError:
            order = ""
        if order != self._order:
            self._order, self._left = order, int(order.partition("#")[2] or 1)
        if order.partition("#")[0] == f"{when}:{name}":
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def doom(orders: Orders) -> None:
    """Wrap the store, the terminals and the printers of this process."""
    _doom_store(orders)
    _doom_devices(orders)


def _doom_store(orders: Orders) -> None:
    from hubd.store import db
    from hubd.store.tx import Tx

    write, commit = db.Database.write, Tx.commit
    group: list[str] = []  # what the transaction that is open has run; only the database thread touches it

    async def doomed_write(self: db.Database, name: str, fn: Callable[[Tx], Any]) -> Any:
        def work(tx: Tx) -> Any:
            result = fn(tx)
            group.append(name)
            return result

        orders.reached("before", name)
        result = await write(self, name, work)
        orders.reached("after", name)
        return result

    def doomed_commit(self: Tx) -> None:
        names = list(group)
        group.clear()
        for name in names:
            orders.reached("inside", name)
        commit(self)
        for name in names:
            orders.reached("committed", name)

    db.Database.write = doomed_write  # type: ignore[method-assign]  # this is what the file is for
    Tx.commit = doomed_commit  # type: ignore[method-assign]  # as above


def _doom_devices(orders: Orders) -> None:
    from drivers.faces import RunnerPrinter, RunnerTerminal

    def doomed(name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(self: Any, *args: Any) -> Any:
            orders.reached("before", name)
            if args and callable(args[-1]):
                shown = args[-1]

                def progress(step: Any) -> None:
                    orders.reached("during", name)
                    shown(step)

                args = (*args[:-1], progress)
            outcome = await method(self, *args)
            orders.reached("after", name)
            return outcome

        return call

    for kind, names in ((RunnerTerminal, TERMINAL_METHODS), (RunnerPrinter, PRINTER_METHODS)):
        for name in names:
            setattr(kind, name, doomed(name, getattr(kind, name)))


def never_sync() -> None:
    """Take the store's promise away: SQLite flushes nothing. The control run of the power cuts must lose."""
    from hubd.store import db

    pragmas = tuple(line.replace("synchronous=FULL", "synchronous=OFF") for line in db.WRITER_PRAGMAS)
    assert pragmas != db.WRITER_PRAGMAS, "the store sets synchronous another way now: teach this wrapper"
    db.WRITER_PRAGMAS = pragmas  # type: ignore[assignment]  # a tuple of as many


def small_disk() -> None:
    """Let the hub sell on the few dozen megabytes of the power-cut rig."""
    from hubd import daemon
    from hubd.store.space import Limits, SpaceGuard

    limits = Limits(reserve=64 * 1024, low=2 * 1024 * 1024, low_again=3 * 1024 * 1024, critical=1024 * 1024)
    assert vars(daemon)["SpaceGuard"] is SpaceGuard, "the daemon looks at its disk another way now: teach this wrapper"
    vars(daemon)["SpaceGuard"] = partial(SpaceGuard, limits=limits)


WRAPPERS = {"never-sync": never_sync, "small-disk": small_disk}


def wrap(wanted: str) -> None:
    """Apply wrappers by name, separated by commas; anything else is a file with orders."""
    for one in wanted.split(","):
        if one in WRAPPERS:
            WRAPPERS[one]()
        else:
            doom(Orders(Path(one)))


def main() -> None:
    """Run hubd with the rest of the arguments."""
    from hubd import main as hubd_main

    wrap(sys.argv.pop(1))
    hubd_main.main()


if __name__ == "__main__":
    main()
