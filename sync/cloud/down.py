"""The cloud's own journal for one hub: written here in the format of docs/reference/journal.md, applied by the hub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sync.cloud.hashing import GENESIS, CloudEntry, read_entry, write_body, write_head
from sync.cloud.keys import CloudKeys
from sync.cloud.storage import DONE, OWN, CloudStorage, EffectRow
from sync.codec import KeyCertificate, Place

INTRODUCE = "introduce_key"


class DownJournal:
    """Appends to the journal of any hub, inside the caller's transaction."""

    def __init__(
        self,
        keys: CloudKeys,
        now_us: Callable[[], int],
        monotonic: Callable[[], float],
        token_bytes: Callable[[int], bytes],
        boot: bytes,
    ) -> None:
        self._keys = keys
        self._now_us = now_us
        self._monotonic = monotonic
        self._token_bytes = token_bytes
        self._boot = boot

    def append(self, storage: CloudStorage, hub: bytes, kind: str, subject: str, fields: dict[str, Any]) -> CloudEntry:
        """Append one entry; the first opens the line."""
        head = storage.down_head(hub) or self.open_line(storage, hub, "new")
        return self._write(storage, hub, head.line, head, kind, subject, fields)

    def open_line(self, storage: CloudStorage, hub: bytes, reason: str) -> Place:
        """Begin a new line, whose parent is the present head, and introduce the keys that sign now."""
        head = storage.down_head(hub)
        parent = {"line": head.line.hex(), "seq": head.seq, "hash": head.hash.hex()} if head else None
        fields: dict[str, Any] = {
            "hub_id": hub.hex(),
            "public_key": self._keys.root.public_key.hex(),
            "reason": reason,
            "parent": parent,
            "number_series": [],
        }
        line = self._token_bytes(16)
        self._write(storage, hub, line, head, "line.opened", "", fields, critical=True)
        for certificate in self._keys.certificates():
            self._introduce(storage, hub, certificate)
        self.introduce_backup_key(storage, hub)
        opened = storage.down_head(hub)
        assert opened is not None, "a line that was just opened has a head"
        return opened

    def introduce_new_keys(self, storage: CloudStorage, hub: bytes) -> None:
        """Say in the journal which keys sign that it does not know yet, so that the hub keeps them (rotation)."""
        for certificate in self._keys.certificates():
            if storage.effect(hub, certificate.key_id, INTRODUCE, 1) is None:
                self._introduce(storage, hub, certificate)

    def _introduce(self, storage: CloudStorage, hub: bytes, certificate: KeyCertificate) -> None:
        fields = {
            "key_id": certificate.key_id,
            "public_key": certificate.public_key.hex(),
            "root_signature": certificate.root_signature.hex(),
        }
        head = storage.down_head(hub)
        assert head is not None, "keys are introduced in a line"
        self._write(storage, hub, head.line, head, "cloud.keys_rotated", certificate.key_id, fields)
        storage.put_effect(EffectRow(hub, certificate.key_id, INTRODUCE, 1, DONE, ""))

    def introduce_backup_key(self, storage: CloudStorage, hub: bytes) -> None:
        """Say for which key of the tenant the hub seals its backups, if the tenant has given one."""
        row = storage.hub(hub)
        key = storage.backup_key(row.tenant) if row is not None else b""
        head = storage.down_head(hub)
        if row is None or not key or head is None:
            return
        signature = self._keys.vouch_for_backup_key(row.tenant, key)
        fields = {"tenant": row.tenant, "public_key": key.hex(), "root_signature": signature.hex()}
        self._write(storage, hub, head.line, head, "tenant.backup_key", "", fields)

    def _write(
        self,
        storage: CloudStorage,
        hub: bytes,
        line: bytes,
        previous: Place | None,
        kind: str,
        subject: str,
        fields: dict[str, Any],
        *,
        critical: bool = False,
    ) -> CloudEntry:
        seq = previous.seq + 1 if previous else 1
        mono_ms = int(self._monotonic() * 1000)
        head = write_head(line, seq, self._now_us(), self._boot, mono_ms, kind, subject, critical=critical)
        entry = read_entry(previous.hash if previous else GENESIS, head, write_body(fields))
        storage.add_down(hub, entry, OWN)
        return entry
