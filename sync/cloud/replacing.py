"""Declaring that one line of a hub took the place of another: a person's act, said in a word that travels by itself.

The successor gets a new epoch, higher than every other, and the word goes down in the cloud's journal. A hub that is
off does not hear it there; the successor hands it on.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from hubd.errors import SyncError
from sync.cloud.down import DownJournal
from sync.cloud.keys import CloudKeys
from sync.cloud.storage import DONE, CloudStorage, EffectRow, HubRow, LineRow

WORD_DOMAIN = b"hubd.replaced.v1\0"
REPLACE = "replace"
_NUMBERS = struct.Struct(">QQq")


def word_bytes(tenant: str, hub: bytes, lines: tuple[bytes, bytes], upto_seq: int, epoch: int, time_us: int) -> bytes:
    """What the cloud signs; of the lines, the replaced one comes first."""
    raw = tenant.encode("utf-8")
    numbers = _NUMBERS.pack(upto_seq, epoch, time_us)
    return WORD_DOMAIN + bytes((len(raw),)) + raw + hub + lines[0] + lines[1] + numbers


def is_replaced(storage: CloudStorage, hub: bytes, line: bytes) -> bool:
    """Whether another line took the place of this one and has kept it."""
    done = storage.effect(hub, line.hex(), REPLACE, 1)
    row, successor = storage.line(hub, line), storage.line(hub, bytes.fromhex(done.detail)) if done else None
    return row is not None and successor is not None and successor.epoch > row.epoch


def replace_line(
    storage: CloudStorage, keys: CloudKeys, down: DownJournal, hub: HubRow, line: bytes, successor: bytes, now_us: int
) -> bool:
    """Write the word and the successor's new epoch, in the caller's transaction; False if that was done before.

    The other way round is a newer word: it puts a hub back that was replaced by mistake. Raises `replace.unknown_line`.
    """
    old, new = storage.line(hub.hub, line), storage.line(hub.hub, successor)
    if old is None or new is None or line == successor:
        raise SyncError("replace.unknown_line", "A line is not one of this hub's.", remedy="Read the hub's lines.")
    done = storage.effect(hub.hub, line.hex(), REPLACE, 1)
    if done is not None and done.detail == successor.hex() and is_replaced(storage, hub.hub, line):
        return False
    epoch = hub.next_epoch
    storage.put_hub(replace(hub, next_epoch=epoch + 1))
    storage.put_line(hub.hub, replace(new, epoch=epoch))
    storage.put_effect(EffectRow(hub.hub, line.hex(), REPLACE, 1, DONE, successor.hex()))
    upto_seq = _common_upto(storage, hub.hub, old, new)
    down.append(storage, hub.hub, "epoch.assigned", "", {"line": successor.hex(), "epoch": epoch})
    word = _signed(keys, hub, line, successor, upto_seq, epoch, now_us)
    down.append(storage, hub.hub, "line.replaced", line.hex(), word)
    return True


def _common_upto(storage: CloudStorage, hub: bytes, old: LineRow, new: LineRow) -> int:
    """The last entry of the replaced line in the successor's chain; before its first if it is no ancestor."""
    row: LineRow | None = new
    while row is not None and row.parent_line:
        place = storage.place(hub, row.parent_hash)
        if row.parent_line == old.line and place is not None:
            return place[1]
        row = storage.line(hub, row.parent_line)
    return old.opened_seq - 1


def _signed(
    keys: CloudKeys, hub: HubRow, line: bytes, successor: bytes, upto_seq: int, epoch: int, now_us: int
) -> dict[str, Any]:
    key = keys.current
    certificate = next(one for one in keys.certificates() if one.key_id == key.key_id)
    signed = word_bytes(hub.tenant, hub.hub, (line, successor), upto_seq, epoch, now_us)
    return {
        "hub": hub.hub.hex(),
        "line": line.hex(),
        "successor": successor.hex(),
        "upto_seq": upto_seq,
        "epoch": epoch,
        "time_us": now_us,
        "key_id": key.key_id,
        "public_key": key.public_key.hex(),
        "root_signature": certificate.root_signature.hex(),
        "signature": key.sign(signed).hex(),
    }
