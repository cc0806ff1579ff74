"""Byte streams to devices: TCP, TLS and serial lines behind one small protocol (`hubd.ports.ByteStream`)."""

from __future__ import annotations

from drivers.transport.device_file import open_device_file
from drivers.transport.serial import open_serial
from drivers.transport.tcp import accept_tcp, open_tcp
from drivers.transport.tls import open_tls
from hubd.errors import ConfigError
from hubd.ports import ByteStream

__all__ = ["accept_tcp", "open_transport"]


async def open_transport(url: str) -> ByteStream:
    """Open `tcp://host:port`, `tls://host:port?roots=FILE&poiid=NAME`, `serial:///path?baud=115200` or a device file.

    Device files are `lp:///dev/usb/lp0`, `hidraw:///path` and `evdev:///path?grab=1`. Raises OSError when the device
    cannot be reached, DeviceError when it is not the one that was meant.
    """
    scheme = url.partition("://")[0]
    if scheme == "tcp":
        return await open_tcp(url)
    if scheme == "tls":
        return await open_tls(url)
    if scheme == "serial":
        return await open_serial(url)
    if scheme in ("lp", "hidraw", "evdev"):
        return await open_device_file(url)
    raise ConfigError(
        "config.invalid_value",
        f"No transport is known for addresses of the kind {scheme}.",
        remedy="Write tcp://host:port, tls://host:port?roots=FILE&poiid=NAME or serial:///dev/serial/by-id/name?baud=115200.",
    )
