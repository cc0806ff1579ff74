"""Serial lines (RS-232, USB-CDC, pseudo-terminals) through pyserial and the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import termios
from typing import Any
from urllib.parse import parse_qs, urlsplit

import serial
import serial_asyncio_fast

from drivers.transport.stream import READ_BUFFER_BYTES, AsyncioStream
from hubd.errors import ConfigError, DeviceError

BAUD_DEFAULT = 115_200
STOP_BITS_DEFAULT = 2
DATA_BITS_DEFAULT = 8
PARITIES = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}


class SerialStream(AsyncioStream):
    """A `ByteStream` over a serial port that nobody else uses (an advisory lock, as pyserial takes it)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: serial.Serial) -> None:
        super().__init__(reader, writer)
        self._port = port

    async def close(self) -> None:
        """Release the port; bytes that the driver of the port still holds are dropped."""
        if not self._closed and self._port.is_open:
            # A pseudo-terminal or an unplugged adapter has no such buffer any more.
            with contextlib.suppress(OSError, serial.SerialException):
                self._port.reset_output_buffer()
        await super().close()

    def _abort(self) -> None:
        # A line that broke is ending already; the library's transport must not be told twice.
        transport = self._writer.transport
        if not transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()


async def open_serial(url: str) -> SerialStream:
    """Open `serial:///dev/…?baud=115200&stop_bits=2&data_bits=8&parity=none`; these are the defaults.

    Raises OSError when it is gone, locked or not permitted, ConfigError for what no line has, DeviceError
    `device.line_settings` for what this one has not.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    baud = _number(options.get("baud", [str(BAUD_DEFAULT)])[0], serial.Serial.BAUDRATES, "baud")
    stop_bits = _number(options.get("stop_bits", [str(STOP_BITS_DEFAULT)])[0], (1, 2), "stop_bits")
    data_bits = _number(options.get("data_bits", [str(DATA_BITS_DEFAULT)])[0], (7, 8), "data_bits")
    parity = options.get("parity", ["none"])[0]
    if parity not in PARITIES:
        raise _unusable("parity")
    settings = {"baudrate": baud, "stopbits": stop_bits, "bytesize": data_bits, "parity": PARITIES[parity]}
    loop = asyncio.get_running_loop()
    # Opening a port may wait for the hardware, so it happens in a thread. Two opens of one port: the second fails.
    port = await loop.run_in_executor(None, _open_port, parts.path, settings)
    reader = asyncio.StreamReader(limit=READ_BUFFER_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        transport, _ = await serial_asyncio_fast.connection_for_serial(loop, lambda: protocol, port)
    except termios.error:
        port.close()
        raise _refused() from None
    return SerialStream(reader, asyncio.StreamWriter(transport, protocol, reader, loop), port)


def _open_port(path: str, settings: dict[str, Any]) -> serial.Serial:
    # pyserial sets RTS and DTR on opening and ignores ports that have no such lines (ENOTTY, EINVAL).
    try:
        return serial.Serial(path, exclusive=True, timeout=0, write_timeout=0, **settings)
    except termios.error:
        raise _refused() from None


def _refused() -> DeviceError:
    return DeviceError(
        "device.line_settings",
        "The serial port does not take the settings in its address.",
        remedy="Correct baud, data_bits, parity and stop_bits, or take another adapter: not all have 7 bits or parity.",
    )


def _number(text: str, allowed: tuple[int, ...], key: str) -> int:
    if text.isdigit() and int(text) in allowed:
        return int(text)
    raise _unusable(key)


def _unusable(key: str) -> ConfigError:
    return ConfigError(
        "config.invalid_value",
        f"The serial address has an unusable {key}.",
        remedy="Write serial:///dev/serial/by-id/name?baud=115200&stop_bits=2.",
    )
