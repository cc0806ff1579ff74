"""Plugs at which devices are put in and pulled out, without udev."""

from __future__ import annotations

from hubd.model.device import Endpoint, EndpointKind, IdentitySource
from tests.simulation.discovery import SimulatedSource

PRINTER_CLASS = 7


class SimulatedPlugs(SimulatedSource):
    """See `SimulatedSource`; of the kind that a hub takes for the word of its own system."""

    kind = EndpointKind.USB

    def pull(self, endpoint: Endpoint) -> None:
        """Pull the plug."""
        del self._announced[endpoint.key]
        for sink in self._sinks:
            sink.vanished(endpoint.kind, endpoint.key)


def plugged_printer(number: str, node: str = "lp0", port: str = "1-1", product: str = "04b8:0202") -> Endpoint:
    """A USB printer at a plug; without a `number` it is known by the plug."""
    vid, pid = (int(part, 16) for part in product.split(":"))
    return Endpoint(
        key=f"/sys/{port}",
        kind=EndpointKind.USB,
        url=f"lp:///dev/usb/{node}",
        identity=f"serial:{product}:{number}" if number else f"port:{port}:{product}",
        identity_source=IdentitySource.SERIAL_NUMBER if number else IdentitySource.PORT_PATH,
        name="TM-T88",
        usb_vid=vid,
        usb_pid=pid,
        usb_classes=(PRINTER_CLASS,),
        position=port,
    )
