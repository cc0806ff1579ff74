"""Asking what hangs on a serial line, because a person wants to know; the answer is a proposal and no claim."""

from __future__ import annotations

from msgspec.structs import replace

from hubd.discovery_ports import FindOut
from hubd.errors import DeviceError, Retry
from hubd.model.permissions import Permission
from hubd.services.access import Caller
from hubd.services.discovery import DiscoveryDesk, Found, Standing


class ProbeDesk:
    """Asks on one line at a time each; nothing is asked of a line that a device of the store has."""

    def __init__(self, discovery: DiscoveryDesk, find_out: FindOut) -> None:
        self._discovery = discovery
        self._find_out = find_out
        self._asking: set[str] = set()

    async def probe(self, found_id: str, caller: Caller) -> Found:
        """Find out what hangs on a line, and note it beside the endpoint. Takes some seconds.

        Raises `endpoint_unknown`, `device.not_probed` for what is no serial line of which a person has to choose the
        driver, `device.busy` while it is being asked already, `device.line_in_use` when it cannot be opened.
        """
        caller.need(Permission.DEVICES_MANAGE)
        await self._discovery.consider()
        found = self._discovery.one(found_id)
        place = found.endpoint.url
        if found.standing is not Standing.CHOOSE or found.endpoint.scheme != "serial" or found.reason:
            raise DeviceError(
                "device.not_probed",
                "Only a serial line of which nobody knows what hangs there is asked.",
                remedy="Use what was found, or take its device out of use first.",
            )
        if place in self._asking:
            raise DeviceError(
                "device.busy",
                "The line is being asked already.",
                remedy="Wait for it.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=10,
            )
        self._asking.add(place)
        try:
            probed = await self._find_out(place.partition("?")[0])
        except OSError:
            raise DeviceError(
                "device.line_in_use",
                "The line cannot be opened.",
                remedy="Look whether it is still plugged in, and whether another program or device uses it.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=10,
            ) from None
        finally:
            self._asking.discard(place)
        self._discovery.note_probed(found_id, probed)
        await self._discovery.consider()
        return replace(found, probed=probed)
