"""Weights on request. Nothing of them is stored: the till that asks puts them on its order."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from hubd.errors import NotFoundError
from hubd.model.device import DeviceKind
from hubd.model.permissions import Permission
from hubd.ports import NoWeight, Scale, Weight
from hubd.services.access import Caller
from hubd.services.peripherals import Peripheral, Peripherals


class WeighingDesk:
    """Asks scales for tills."""

    def __init__(self, peripherals: Peripherals, tell: Callable[[Peripheral, Weight], None]) -> None:
        """`tell` is called with every weight that somebody has asked for."""
        self._peripherals = peripherals
        self._tell = tell

    async def weigh(self, scale: str, caller: Caller) -> tuple[Weight | None, NoWeight | None]:
        """Ask once: a weight that the scale calls stable, or why there is none. Raises `scale_unknown`."""
        found = self._peripherals.in_place_of(scale)
        if found is None or found.kind is not DeviceKind.SCALE:
            raise NotFoundError("scale_unknown", "No scale of this id is in use.", remedy="Read the list of devices.")
        caller.need_at(Permission.DEVICES_READ, found.location)
        async with found.lock:
            answer = await cast("Scale", found.face).weigh()
        if isinstance(answer, Weight):
            self._tell(found, answer)
        return (answer, None) if isinstance(answer, Weight) else (None, answer)
