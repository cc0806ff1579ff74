"""The terminals that are attached now, and the one dialogue that each can hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import Struct, field
from msgspec.structs import replace

from hubd.model.device import DeviceState
from hubd.ports import Progress, Terminal, TerminalStatus
from hubd.services.taking import TerminalView

READY = frozenset({DeviceState.READY, DeviceState.BUSY})


class Attached(Struct):
    """An activated terminal with its driver running."""

    id: str
    name: str
    role: str
    """`till:ID` binds it to one till; empty: any till of its location."""
    location: str
    device_class: str
    terminal: Terminal
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    in_use: bool = True
    """Whether it has taken every step into use; until then it is not offered and counts as connecting (D01)."""
    payment_id: str = ""
    """The payment whose dialogue it holds; empty when it holds none."""
    progress: Progress | None = None
    leaving: bool = False
    """Its place is taken: it sends what it holds, and takes no payment."""
    before: tuple[str, ...] = ()
    """The devices whose place it has taken: whoever names one of them means it."""


class Terminals:
    """A book of the attached terminals. Everything here is of this moment; nothing of it is stored."""

    def __init__(self) -> None:
        self._attached: dict[str, Attached] = {}
        self._watchers: list[Callable[[str], None]] = []

    def attach(self, attached: Attached) -> None:
        """Make a terminal usable."""
        self._attached[attached.id] = attached
        self.changed(attached.id)

    def detach(self, terminal_id: str) -> None:
        """Take a terminal away; a dialogue that runs ends by itself as unknown."""
        self._attached.pop(terminal_id, None)
        self.changed(terminal_id)

    def get(self, terminal_id: str) -> Attached | None:
        """The attached terminal of this id."""
        return self._attached.get(terminal_id)

    def in_place_of(self, device_id: str) -> Attached | None:
        """The terminal that is used under this id: it, or the one that has taken its place."""
        own = self._attached.get(device_id)
        if own is not None and not own.leaving:
            return own
        return next((one for one in self.all() if device_id in one.before), own)

    def all(self) -> list[Attached]:
        """Every attached terminal, by id."""
        return [self._attached[key] for key in sorted(self._attached)]

    def status(self, terminal_id: str) -> TerminalStatus | None:
        """How a terminal is now; None if its driver does not run."""
        attached = self._attached.get(terminal_id)
        if attached is None:
            return None
        status = attached.terminal.status
        return replace(status, state=DeviceState.CONNECTING) if self._waits(attached) else status

    def waiting(self, terminal_id: str) -> bool:
        """Whether a terminal answers and has not been put to use yet."""
        attached = self._attached.get(terminal_id)
        return attached is not None and self._waits(attached)

    def _waits(self, one: Attached) -> bool:
        return not one.in_use and one.terminal.status.state is DeviceState.READY

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher(terminal_id)` whenever a terminal's state or prompt changes."""
        self._watchers.append(watcher)

    def changed(self, terminal_id: str) -> None:
        """Tell the watchers."""
        for watcher in self._watchers:
            watcher(terminal_id)

    def reserve(self, terminal_id: str, payment_id: str) -> None:
        """Keep a free terminal for a payment that is about to be written; nothing happens if it is taken."""
        attached = self._attached.get(terminal_id)
        if attached is not None and not attached.payment_id:
            attached.payment_id = payment_id

    def release(self, payment_id: str) -> None:
        """Give back what was kept for a payment that has not become a dialogue."""
        for attached in self._attached.values():
            if attached.payment_id == payment_id:
                attached.payment_id = ""

    def choose(self, till: str, location: str, wanted: str | None, payment_id: str = "") -> TerminalView:
        """The terminal for a payment: the one asked for, else the till's own, else a free one of the location."""
        if wanted is not None:
            chosen = self.in_place_of(wanted)
            if chosen is None or chosen.leaving:
                return TerminalView(wanted, "no_terminal")
            if chosen.location != location or chosen.role not in {"", f"till:{till}"}:
                # Its contract is another shop's, or its customer stands at another till.
                return TerminalView(wanted, "terminal_elsewhere", chosen.device_class)
            return self._view(chosen, payment_id)
        here = [one for one in self.all() if one.location == location and not one.leaving]
        own = [one for one in here if one.role == f"till:{till}"]
        shared = [one for one in here if not one.role]
        candidates = own or shared
        if not candidates:
            return TerminalView(None, "no_terminal")
        usable = [one for one in candidates if not self._view(one, payment_id).refusal]
        return self._view((usable or candidates)[0], payment_id)

    def _view(self, one: Attached, payment_id: str) -> TerminalView:
        refusal = ""
        if one.terminal.status.state not in READY or not one.in_use:
            refusal = "terminal_unreachable"
        elif one.payment_id not in {"", payment_id}:
            refusal = "terminal_busy"
        return TerminalView(one.id, refusal, one.device_class)
