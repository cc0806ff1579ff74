"""Takes the file of a hub's unsent entries into the cloud, under the rules of batches that come by line."""

from __future__ import annotations

from dataclasses import dataclass

from hubd.errors import SyncError
from sync.carried import Header, Unpacker, damaged
from sync.cloud.keys import signature_holds
from sync.cloud.storage import CloudStorage, HubRow
from sync.cloud.topics import topic_of
from sync.cloud.upload import Taken, Upload
from sync.codec import Documents, Entries, open_frame


@dataclass(slots=True)
class Import:
    """One file on its way in. What was taken stays taken when the rest is missing: the same file again goes on."""

    upload: Upload
    new_count: int = 0
    document_count: int = 0
    reached: bytes = b""

    def take(self, storage: CloudStorage, header: Header, frame: bytes) -> HubRow:
        """Store what is new of one frame, in the caller's transaction; returns whose it is.

        Raises `carried.unknown_hub`, `carried.not_signed`, and `carried.gap` when earlier entries have not come.
        """
        hub = storage.hub(_hub_id(header))
        if hub is None or hub.tenant != header.tenant:
            raise SyncError("carried.unknown_hub", "The hub of this file is not enrolled here.")
        opened = open_frame(frame)
        if not opened.check(topic_of(hub.tenant, hub.hub, "up"), hub.public_key, signature_holds):
            raise SyncError("carried.not_signed", "The file was changed: a part of it is not signed by its hub.")
        message = opened.message()
        if isinstance(message, Entries):
            taken = self.upload.take(storage, hub, message)
            if not isinstance(taken, Taken):
                raise SyncError(
                    "carried.gap",
                    "Entries before those of the file have not come yet.",
                    remedy="Take the older export of this hub first, or let it connect once.",
                )
            self.new_count += taken.new_count
            self.reached = taken.last.hash
        elif isinstance(message, Documents):
            self.document_count += sum(self.upload.take_document(storage, hub.hub, one) for one in message.documents)
        return hub

    def finish(self, unpacker: Unpacker) -> Header:
        """Raise `carried.damaged` unless the file was whole and led to the entry that it names."""
        header = unpacker.header
        if header is None or not unpacker.complete or self.reached.hex() != header.upto_hash:
            raise damaged("its end is missing")
        return header


def _hub_id(header: Header) -> bytes:
    try:
        return bytes.fromhex(header.hub)
    except ValueError as exc:
        raise damaged("its first line cannot be read") from exc
