"""Devices as the hub sees them: endpoints that discovery found, kinds, capabilities, states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeviceKind(StrEnum):
    """What a device is for."""

    TILL = "till"
    VIEWER = "viewer"
    TERMINAL = "terminal"
    PRINTER = "printer"
    SCANNER = "scanner"
    SCALE = "scale"


class Capability(StrEnum):
    """What a device can do, as its manifest states."""

    PAY = "pay"
    REVERSE = "reverse"
    QUERY_LAST = "query_last"
    END_OF_DAY = "end_of_day"
    SEND_OFFLINE = "send_offline"
    DIAGNOSE = "diagnose"
    ABORT = "abort"


class DeviceState(StrEnum):
    """How a device is, judged by the age of its last good answer."""

    CONNECTING = "connecting"
    READY = "ready"
    BUSY = "busy"
    SILENT = "silent"
    GONE = "gone"
    FAULTY = "faulty"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place where a device was seen, as an address a transport can open: `tcp://host:port`, `serial:///dev/...`."""

    url: str
    identity: str
    """The best identity known: serial number, else port path, else the address itself."""
    identity_source: str
    """Which rung of the identity ladder gave `identity`: serial, port_path, vid_pid, address."""
