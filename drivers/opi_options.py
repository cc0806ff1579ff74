"""What differs between installations of an OPI terminal, from the options of its device."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from drivers.base import DriverOptions
from drivers.opi_messages import Till
from hubd.errors import DeviceError

DEVICE_PORT, WORKSTATION_ID, POP_ID, LANGUAGE = "device_port", "workstation_id", "pop_id", "language"
"""Options of this driver: the hub's port for this terminal, and as whom the hub speaks (`Till`)."""
DEVICE_PORT_DEFAULT = 4102


@dataclass(frozen=True, slots=True)
class OpiOptions:
    """What differs between installations."""

    till: Till = field(default_factory=Till)
    device_port: int = DEVICE_PORT_DEFAULT
    """Where the terminal reaches the hub's devices; two terminals of one hub need two ports."""


def options_of(configured: DriverOptions) -> OpiOptions:
    """Raises DeviceError `device.port_invalid`, shown where the terminal is listed."""
    plain = Till()
    port = configured.get(DEVICE_PORT, str(DEVICE_PORT_DEFAULT))
    if re.fullmatch(r"[0-9]{1,5}", port) is None or not 0 < int(port) < 65536:
        raise DeviceError(
            "device.port_invalid",
            "The device port of an OPI terminal is a number from 1 to 65535.",
            remedy="Correct device_port on the page of this device; the terminal's menu shows it as POS device port.",
        )
    till = Till(
        configured.get(WORKSTATION_ID, plain.workstation_id),
        configured.get(POP_ID, plain.pop_id),
        configured.get(LANGUAGE, plain.language),
    )
    return OpiOptions(till, int(port))
