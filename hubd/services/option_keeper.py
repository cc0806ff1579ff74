"""What is set of each device, as its driver gets it: the configuration first, over it what people have set.

Secrets leave the hub nowhere readable: they are one document a device, sealed with a key that lies beside the hub's own
and goes into backups only. Journal and cloud hold the sealed bytes; a hub that has lost the key asks for them again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from msgspec import Struct

from hubd.model.entry import Draft
from hubd.services.outcomes import MakeDocument
from hubd.store import device_options, documents, journal
from hubd.store.db import Database
from hubd.store.device_options import Configured
from hubd.store.devices import Device
from hubd.store.tx import Connection, Tx

log = logging.getLogger(__name__)

KEY_BYTES = 32
NONCE_BYTES = 12
DOCUMENT_CLASS = "device_secrets"
_DOMAIN = b"hubd.device-secrets.v1\0"


class SecretBox:
    """Seals a device's secrets, each for that device alone."""

    def __init__(self, key: bytes, token_bytes: Callable[[int], bytes]) -> None:
        self._key = key
        self._token_bytes = token_bytes

    def __repr__(self) -> str:
        """Without the key."""
        return "SecretBox()"

    def _cipher(self) -> ChaCha20Poly1305:
        # A hub without a key file (a demo) keeps what it is told until it ends.
        self._key = self._key or self._token_bytes(KEY_BYTES)
        return ChaCha20Poly1305(self._key)

    def seal(self, device_id: str, secrets: Mapping[str, str]) -> bytes:
        """The bytes to be kept."""
        nonce = self._token_bytes(NONCE_BYTES)
        plain = json.dumps(dict(secrets), sort_keys=True).encode("utf-8")
        return nonce + self._cipher().encrypt(nonce, plain, _DOMAIN + device_id.encode("ascii"))

    def open(self, device_id: str, sealed: bytes) -> dict[str, str] | None:
        """What was sealed; None where the key is another one, or the bytes are another device's."""
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            plain = self._cipher().decrypt(nonce, rest, _DOMAIN + device_id.encode("ascii"))
        except (InvalidTag, ValueError):
            return None
        opened: dict[str, str] = json.loads(plain)
        return opened


class Kept(Struct, frozen=True):
    """The options of one device with its secrets opened; not to be shown."""

    stored: Configured
    configuration: Mapping[str, str]
    secrets: Mapping[str, str]
    lost: frozenset[str]
    """Secrets that were set and cannot be opened any more."""

    def __repr__(self) -> str:
        """Without values."""
        return f"Kept(version={self.stored.version})"

    @property
    def in_force(self) -> dict[str, str]:
        """What the driver gets."""
        return {**self.configuration, **self.stored.options, **self.secrets}


class OptionKeeper:
    """Reads and writes options of devices; who may do it, and when, is judged by `OptionDesk`."""

    def __init__(
        self,
        db: Database,
        box: SecretBox,
        configuration: Callable[[Device], Mapping[str, str]],
        make_document: MakeDocument,
    ) -> None:
        self._db = db
        self._box = box
        self._configuration = configuration
        self._make_document = make_document

    async def of(self, device: Device) -> Kept:
        """The options of this device now."""
        return await self._db.read("device.options", lambda c: self.read(c, device))

    def read(self, connection: Connection, device: Device) -> Kept:
        """The same, where the connection is at hand."""
        stored = device_options.get(connection, device.id)
        secrets: Mapping[str, str] | None = {}
        if stored.document is not None:
            document = documents.get(connection, stored.document)
            secrets = self._box.open(device.id, document.content) if document else None
        if secrets is None:
            log.warning("device.secrets_lost", extra={"device_id": device.id})
        lost = frozenset(stored.secrets) if secrets is None else frozenset[str]()
        return Kept(stored, self._configuration(device), secrets or {}, lost)

    def write(
        self, tx: Tx, device: Device, options: Mapping[str, str], secrets: Mapping[str, str] | None, actor: str
    ) -> list[bytes]:
        """Append what is set from now on; returns the document whose bytes are to go, if there is one.

        Without `secrets` those stay that are set, also where they cannot be opened.
        """
        before = device_options.get(tx.connection, device.id)
        document = self._make_document(DOCUMENT_CLASS, self._box.seal(device.id, secrets)) if secrets else None
        kept = before.document if secrets is None else document.id if document else None
        body = {
            "document": kept.hex() if kept else "",
            "driver": device.driver,
            "options": dict(sorted(options.items())),
            "secrets": sorted(before.secrets if secrets is None else secrets),
        }
        made = (document,) if document else ()
        journal.append(tx, Draft("device.configured", device.id, actor, body, documents=made))
        if secrets is None or before.document is None or not documents.erase(tx, before.document):
            return []
        journal.append(tx, documents.erasure(before.document, "device_configured", actor))
        return [before.document]

    def carry(self, tx: Tx, old: Device, taker: Device, actor: str) -> None:
        """Give what is set of one device to another of the same driver, which takes its place."""
        kept = self.read(tx.connection, old)
        if old.driver == taker.driver and (kept.stored.options or kept.secrets):
            self.write(tx, taker, kept.stored.options, kept.secrets, actor)
