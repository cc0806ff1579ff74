"""Whose word counts as the cloud's: frames for this connection, signed by a key that the pinned root vouches for."""

from __future__ import annotations

from collections.abc import Mapping

from hubd.errors import SyncError
from hubd.identity import key_id_of, verify_signature
from sync.codec import NO_NONCE, Again, Frame, Hello, KeyCertificate, Message, key_bytes, open_frame


class Trust:
    """The keys of the cloud that one conversation believes, and what it hears from them."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._root = b""
        self._keys: dict[str, bytes] = {}

    @property
    def keys(self) -> Mapping[str, bytes]:
        """Every key that is believed, by its id."""
        return self._keys

    def know(self, root: bytes, keys: Mapping[str, bytes]) -> None:
        """Believe the root that was pinned at enrolment, and keys that the hub's journal has."""
        self._root = root
        self._keys.update(keys)
        if root:
            self._keys[key_id_of(root)] = root

    def open(self, raw: bytes, nonce: bytes, peer_nonce: bytes) -> Message | None:
        """The message of a frame; None for one that is not for this connection.

        Raises `sync.not_the_cloud` for what somebody else has signed, `sync.codec` and `sync.too_large`.
        """
        frame = open_frame(raw)
        if frame.to not in {nonce, NO_NONCE}:
            return None  # for another connection: an older one of ours, or a clone's
        known = frame.key_id in self._keys
        if known and not self._signed(frame):
            raise _stranger("its signature is wrong")
        message = frame.message()
        if frame.to == NO_NONCE and not (isinstance(message, Again) and message.echo == peer_nonce):
            return None  # only a cloud that has forgotten us cannot address us
        if not known:
            self._introduced(frame, message)
        return message

    def _introduced(self, frame: Frame, message: Message) -> None:
        """A message may bring the keys by which it is to be known."""
        if not isinstance(message, Hello | Again) or not self._learn(message.keys):
            raise _stranger(f"key {frame.key_id[:16]} is not known")
        if not self._signed(frame):
            raise _stranger("its signature is wrong")

    def _signed(self, frame: Frame) -> bool:
        return frame.check(self._topic, self._keys.get(frame.key_id, b""), verify_signature)

    def _learn(self, certificates: tuple[KeyCertificate, ...]) -> bool:
        """Believe keys that the root has signed; the journal's entry makes them last."""
        learned = False
        for key_id, public_key, signature in ((c.key_id, c.public_key, c.root_signature) for c in certificates):
            good = verify_signature(self._root, signature, key_bytes(key_id, public_key))
            if good and key_id == key_id_of(public_key):
                self._keys[key_id] = public_key
                learned = True
        return learned


def _stranger(why: str) -> SyncError:
    return SyncError("sync.not_the_cloud", f"Something that is not the cloud answers: {why}.")
