"""What one mDNS announcement becomes, without any network.

Anybody on the shop's network can announce anything, under any name: what is read is bounded and made plain here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

from hubd.model.card_data import holds_card_data
from hubd.model.device import (
    ENDPOINT_NAME_MAX,
    IDENTITY_MAX,
    TXT_ITEMS_MAX,
    TXT_KEY_MAX,
    TXT_VALUE_MAX,
    Endpoint,
    EndpointKind,
    Flaw,
    IdentitySource,
    plain,
)

SERIAL_NUMBER_KEYS = ("serial", "sn", "usb_ser", "uuid", "id")
"""TXT keys under which devices tell what stays with them, best first. Keys have no case (RFC 6763 6.4)."""
PATH_KEYS = {"_ipp._tcp.local.": "rp"}
"""Under which key a service tells the path at its address (Bonjour Printing Specification: the resource path)."""
KEPT_FIRST = (*SERIAL_NUMBER_KEYS, *PATH_KEYS.values(), "pdl", "ty", "product", "usb_mdl", "usb_cmd")
"""Keys that are kept of an announcement that says too much: a printer may say twenty things."""
_PATH = re.compile(r"/?[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_SERIAL_NUMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{3,63}")


def endpoint_of(
    service: str,
    name: str,
    addresses: Iterable[str],
    port: int | None,
    properties: Mapping[bytes, bytes | None],
    *,
    loopback: bool = False,
) -> Endpoint:
    """What an announcement says, bounded and made plain. `loopback`: whether the hub looks at this machine only."""
    txt = _txt(properties)
    identity, source = _identity(name, dict(txt))
    address, flaw = _address(addresses, loopback=loopback)
    if not flaw and not port:
        flaw = Flaw.NO_ADDRESS
    return Endpoint(
        key=name,
        kind=EndpointKind.MDNS,
        url="" if flaw else f"tcp://{address}:{port}{_path(service, dict(txt))}",
        identity=identity,
        identity_source=source,
        name=_kept(name.removesuffix(f".{service}"), ENDPOINT_NAME_MAX),
        service=service,
        txt=txt,
        flaw=flaw,
    )


def _txt(properties: Mapping[bytes, bytes | None]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for key, value in properties.items():
        name = _kept(key.decode("utf-8", "replace"), TXT_KEY_MAX).casefold()
        if len(found) < TXT_ITEMS_MAX or name in KEPT_FIRST:
            found.setdefault(name, _kept((value or b"").decode("utf-8", "replace"), TXT_VALUE_MAX))
    spare = [name for name in found if name not in KEPT_FIRST][::-1]
    for name in spare[: max(0, len(found) - TXT_ITEMS_MAX)]:
        del found[name]
    return tuple(sorted(found.items()))


def _path(service: str, txt: Mapping[str, str]) -> str:
    path = txt.get(PATH_KEYS.get(service, ""), "")
    return f"/{path.removeprefix('/')}" if _PATH.fullmatch(path) else ""


def _kept(text: str, length_max: int) -> str:
    """The text made plain, unless it holds a card number: such a text enters nowhere, whoever wrote it."""
    shown = plain(text, length_max)
    return "" if holds_card_data(text) or holds_card_data(shown) else shown


def _identity(name: str, txt: Mapping[str, str]) -> tuple[str, IdentitySource]:
    for key in SERIAL_NUMBER_KEYS:
        if _SERIAL_NUMBER.fullmatch(txt.get(key, "")):
            return f"serial:{txt[key]}", IdentitySource.SERIAL_NUMBER
    return f"name:{_kept(name, IDENTITY_MAX)}", IdentitySource.NAME


def _address(addresses: Iterable[str], *, loopback: bool) -> tuple[str, Flaw]:
    """The first address inside the shop; one outside it, or the hub's own, is not spoken to on a stranger's word."""
    refused = False
    for text in addresses:
        address = ipaddress.ip_address(text)
        if address.version != 4:  # the hub speaks IPv4 in the shop
            continue
        inside = address.is_private and not (address.is_unspecified or address.is_multicast or address.is_reserved)
        if inside and (loopback or not address.is_loopback):
            return text, Flaw.NONE
        refused = True
    return "", Flaw.ADDRESS_REFUSED if refused else Flaw.NO_ADDRESS
