"""The printers, scales, scanners and modems that are attached now. Nothing here is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

from msgspec import Struct, field

from hubd.model.device import DeviceKind
from hubd.ports import Modem, Printer, Scale, Scan, Scanner


class Peripheral(Struct):
    """An active printer, scale, scanner or modem with its driver running."""

    id: str
    kind: DeviceKind
    name: str
    role: str
    """`till:ID` binds it to one till; empty: any till of its location."""
    location: str
    face: Printer | Scale | Scanner | Modem
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    before: tuple[str, ...] = ()
    """The devices whose place it has taken: whoever names one of them means it."""

    @property
    def till(self) -> str:
        """The till that it belongs to; empty: none."""
        return self.role.removeprefix("till:") if self.role.startswith("till:") else ""


class Peripherals:
    """A book of the attached devices that hold no money."""

    def __init__(self) -> None:
        self._attached: dict[str, Peripheral] = {}
        self._watchers: list[Callable[[str], None]] = []
        self._scan_listeners: list[Callable[[str, Scan], None]] = []

    def attach(self, peripheral: Peripheral) -> None:
        """Make a device usable."""
        self._attached[peripheral.id] = peripheral
        if peripheral.kind is DeviceKind.SCANNER:
            cast("Scanner", peripheral.face).listen(partial(self._hear, peripheral.id))
        self.changed(peripheral.id)

    def detach(self, device_id: str) -> None:
        """Take a device away."""
        if self._attached.pop(device_id, None) is not None:
            self.changed(device_id)

    def get(self, device_id: str) -> Peripheral | None:
        """The attached device of this id."""
        return self._attached.get(device_id)

    def in_place_of(self, device_id: str) -> Peripheral | None:
        """The device that is used under this id: it, or the one that has taken its place."""
        return self.get(device_id) or next((one for one in self.all() if device_id in one.before), None)

    def all(self, kind: DeviceKind | None = None) -> list[Peripheral]:
        """Every attached device, or those of one kind, by id."""
        found = (self._attached[key] for key in sorted(self._attached))
        return [one for one in found if kind is None or one.kind is kind]

    def choose(self, kind: DeviceKind, till: str, location: str) -> Peripheral | None:
        """The one for a till: its own, else one of its location that belongs to no till; None when there is none."""
        here = [one for one in self.all(kind) if one.location == location]
        own = [one for one in here if one.role == f"till:{till}"]
        shared = [one for one in here if not one.role]
        return next(iter(own or shared), None)

    def on_scan(self, listener: Callable[[str, Scan], None]) -> None:
        """Call `listener(device_id, scan)` for whatever an attached scanner has read."""
        self._scan_listeners.append(listener)

    def _hear(self, device_id: str, scan: Scan) -> None:
        for listener in self._scan_listeners:
            listener(device_id, scan)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Call `watcher(device_id)` whenever a device comes, goes or changes."""
        self._watchers.append(watcher)

    def changed(self, device_id: str) -> None:
        """Tell the watchers."""
        for watcher in self._watchers:
            watcher(device_id)
