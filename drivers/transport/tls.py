"""TLS to a device: its certificate is verified against given roots and must bear one of the given names.

The address of a device in a shop is no name, so the host name is not compared; the certificate's common name is.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from drivers.transport.stream import READ_BUFFER_BYTES, AsyncioStream
from drivers.transport.tcp import prepare_socket
from hubd.errors import ConfigError, DeviceError

ADYEN_NAMES = ("{poiid}.live.terminal.adyen.com", "{poiid}.test.terminal.adyen.com")
"""Common names of an Adyen terminal's certificate; its root says whether it is a live or a test one."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,250}[A-Za-z0-9])?")


async def open_tls(url: str) -> AsyncioStream:
    """Connect to `tls://host:port?roots=/path/roots.pem&poiid=V400m-324688179`; the caller bounds the time.

    `roots` is a PEM file with the certificates that may have signed the device's. `poiid` is an Adyen terminal's; for
    another name give `name`, which may be repeated. TLS 1.2 or newer.

    Raises OSError, ConfigError for an unusable address, DeviceError `device.certificate_refused` for somebody else.
    """
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    host, port, names = _place(parts), parts.port, _names(options)
    loop = asyncio.get_running_loop()
    context = await loop.run_in_executor(None, _context, options.get("roots", [""])[-1])
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=READ_BUFFER_BYTES, ssl=context)
    except ssl.SSLCertVerificationError as error:
        raise _refused(error.verify_message) from None
    stream = AsyncioStream(reader, writer)
    prepare_socket(writer.get_extra_info("socket"))
    found = common_names(writer.get_extra_info("peercert"))
    if len(found) != 1 or found[0].lower() not in names:
        await stream.close()
        raise _refused("it bears another name")
    return stream


def common_names(certificate: dict[str, Any] | None) -> list[str]:
    """Every commonName in the subject of a certificate as `ssl` decodes it."""
    subject = (certificate or {}).get("subject", ())
    return [value for group in subject for key, value in group if key == "commonName"]


def _place(parts: SplitResult) -> str:
    try:
        usable = bool(parts.hostname and parts.port)
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise _unusable("lacks host or port")
    return parts.hostname or ""


def _names(options: dict[str, list[str]]) -> frozenset[str]:
    poiids = [name.format(poiid=poiid) for poiid in options.get("poiid", []) for name in ADYEN_NAMES]
    names = [*poiids, *options.get("name", [])]
    if not names or not all(_NAME.fullmatch(name) for name in names):
        raise _unusable("names no certificate to expect")
    return frozenset(name.lower() for name in names)


def _context(roots: str) -> ssl.SSLContext:
    """Reads the file of roots, so it runs in a thread. Nothing else on this machine is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=roots)
    except (OSError, ValueError):
        raise _unusable("has no readable file of roots") from None
    if not context.cert_store_stats()["x509_ca"]:
        raise _unusable("has a file of roots without any")
    return context


def _unusable(what: str) -> ConfigError:
    return ConfigError(
        "config.invalid_value",
        f"The TLS address {what}.",
        remedy="Write tls://host:8443?roots=/etc/hubd/terminal-roots.pem&poiid=V400m-324688179.",
    )


def _refused(why: str) -> DeviceError:
    return DeviceError(
        "device.certificate_refused",
        f"The certificate of what answers at the terminal's address is refused: {why}.",
        remedy="Check the address, the terminal's POIID, and that the roots are the terminal maker's for live or test.",
    )
