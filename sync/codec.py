"""Messages between hub and cloud, and their bytes. docs/reference/sync.asyncapi.yaml is the specification.

A frame is `signature[64] | payload`, and payload is `u8 version | u8 encoding | str8 key_id | to[16] | data`. The
signature covers the topic and the payload as it is sent. `to` is the nonce that the receiver chose for this
connection (zeros in a first hello), so nothing can be replayed into another one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from hubd.errors import Retry, SyncError

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1
FRAME_VERSION: Final = 1
PLAIN: Final = 0
ZLIB: Final = 1

MESSAGE_DOMAIN: Final = b"hubd.msg.v1\0"
PROOF_DOMAIN: Final = b"hubd.proof.v1\0"
KEY_DOMAIN: Final = b"hubd.key.v1\0"

BATCH_ENTRIES_MAX: Final = 100
BATCH_SMALL_BYTES: Final = 64 * 1024
"""A batch of many small entries ends here; a single larger entry still travels, alone."""
BATCH_BYTES_MAX: Final = 256 * 1024
MESSAGE_BYTES_MAX: Final = 320 * 1024
"""A frame, before and after decompression: the largest document with its surroundings fits."""
COMPRESS_ABOVE_BYTES: Final = 1024
IN_FLIGHT_MAX: Final = 16
DOCUMENTS_WANTED_MAX: Final = 64
ENTRY_OVERHEAD_BYTES: Final = 16
NONCE_BYTES: Final = 16
NO_NONCE: Final = bytes(NONCE_BYTES)

_U32 = struct.Struct(">I")
_PROOF_TAIL = struct.Struct(">16s16sQ32sq")


class Limits(msgspec.Struct, frozen=True):
    """What one side takes; each side sends within the smaller of both."""

    batch_entries: int = BATCH_ENTRIES_MAX
    batch_bytes: int = BATCH_BYTES_MAX
    message_bytes: int = MESSAGE_BYTES_MAX
    in_flight: int = IN_FLIGHT_MAX


class Place(msgspec.Struct, array_like=True, frozen=True):
    """An entry named by line and seq and identified by its hash."""

    line: bytes
    seq: int
    hash: bytes


class Proof(msgspec.Struct, array_like=True, frozen=True):
    """The cloud's signed word that it holds a chain up to here."""

    key_id: str
    line: bytes
    seq: int
    hash: bytes
    time_us: int
    signature: bytes


class KeyCertificate(msgspec.Struct, array_like=True, frozen=True):
    """A cloud key, signed by the root that was pinned at enrolment."""

    key_id: str
    public_key: bytes
    root_signature: bytes


class Range(msgspec.Struct, array_like=True, frozen=True):
    """Entries of one line, `hash` being the last one's."""

    line: bytes
    from_seq: int
    upto_seq: int
    hash: bytes


class WireEntry(msgspec.Struct, array_like=True, frozen=True):
    """An entry as stored: its hash follows from the one before."""

    head: bytes
    body: bytes


class WireDocument(msgspec.Struct, array_like=True, frozen=True):
    """A document beside an entry; an erased one travels as `erased` without salt and content."""

    id: bytes
    klass: str = ""
    salt: bytes = b""
    content: bytes = b""
    keep_until: str = ""
    law: str = ""
    erased: bool = False


class Hello(msgspec.Struct, frozen=True, tag="hello", tag_field="t", omit_defaults=True):
    """Who I am, what I hold and what I have of yours; both ways on every connect."""

    nonce: bytes
    connection: int
    line: bytes
    head_seq: int
    head_hash: bytes
    protocol: tuple[int, int] = (PROTOCOL_MIN, PROTOCOL_MAX)
    limits: Limits = Limits()
    proof: Proof | None = None
    applied: Place | None = None
    confirmed: Place | None = None
    """From the cloud: how far this hub has ever confirmed its journal (S10). From the hub: from where it will send."""
    boot: bytes = b""
    start: str = ""
    clock_trusted: bool = False
    time_us: int = 0
    versions: dict[str, str] = {}
    reach: dict[str, list[str]] = {}
    """For tills in browsers: the hub's names, addresses and certificate fingerprints."""
    keys: tuple[KeyCertificate, ...] = ()
    forgotten: tuple[Range, ...] = ()
    uninterpreted: int = 0
    providers: dict[str, bool] = {}


class Entries(msgspec.Struct, frozen=True, tag="entries", tag_field="t", omit_defaults=True):
    """A run of entries of one line, in order, without gaps."""

    line: bytes
    from_seq: int
    prev_hash: bytes
    entries: tuple[WireEntry, ...]
    upto_hash: bytes
    documents: tuple[WireDocument, ...] = ()
    documents_missing: tuple[bytes, ...] = ()


class Confirm(msgspec.Struct, frozen=True, tag="confirm", tag_field="t", omit_defaults=True):
    """Committed up to here, cumulative. Upwards with a proof."""

    line: bytes
    upto_seq: int
    hash: bytes
    proof: Proof | None = None
    documents_wanted: tuple[bytes, ...] = ()
    forgotten: tuple[Range, ...] = ()
    uninterpreted: int = 0


class Expect(msgspec.Struct, frozen=True, tag="expect", tag_field="t"):
    """Send again from here: what came does not follow what I have."""

    line: bytes
    seq: int


class HashAt(msgspec.Struct, frozen=True, tag="hash_at", tag_field="t"):
    """What is the hash of your entry `seq`? Asked to find the last common entry."""

    seq: int


class HashIs(msgspec.Struct, frozen=True, tag="hash", tag_field="t"):
    """The answer to `hash_at`; both empty where the chain has no such entry."""

    seq: int
    line: bytes
    hash: bytes


class Stale(msgspec.Struct, frozen=True, tag="stale", tag_field="t"):
    """Open a new line before you send anything more: `behind`, `fork` or `two_starts`. `head` is what I have of it."""

    reason: str
    head: Place


class Refused(msgspec.Struct, frozen=True, tag="refused", tag_field="t"):
    """A message that could not be read: `codec`, `too_large`, `not_entries`. The sender tries plainly once."""

    from_seq: int
    reason: str


class Again(msgspec.Struct, frozen=True, tag="again", tag_field="t", omit_defaults=True):
    """I do not know this conversation (any more): say hello again. `echo` is the nonce that was used.

    Travels to the zero nonce, because its sender knows none of the hub's; `keys` as in a hello, for the same reason.
    """

    echo: bytes
    keys: tuple[KeyCertificate, ...] = ()


class Ping(msgspec.Struct, frozen=True, tag="ping", tag_field="t"):
    """Ask whether the other is there; from the cloud also whether *this* start of the hub is alive (S11)."""

    id: int


class Pong(msgspec.Struct, frozen=True, tag="pong", tag_field="t", omit_defaults=True):
    """Yes."""

    id: int
    time_us: int
    providers: dict[str, bool] = {}


class ForgottenWanted(msgspec.Struct, frozen=True, tag="forgotten_wanted", tag_field="t"):
    """Send me, read-only, what I have lost of this line of mine."""

    line: bytes
    from_seq: int
    upto_seq: int


class Forgotten(msgspec.Struct, frozen=True, tag="forgotten", tag_field="t"):
    """Entries of the receiver's own journal that it has lost; `done` with the last of the range."""

    line: bytes
    from_seq: int
    prev_hash: bytes
    entries: tuple[WireEntry, ...]
    upto_hash: bytes
    done: bool


class Documents(msgspec.Struct, frozen=True, tag="documents", tag_field="t"):
    """Documents that did not travel with their entries."""

    documents: tuple[WireDocument, ...]


class DocConfirm(msgspec.Struct, frozen=True, tag="doc_confirm", tag_field="t", omit_defaults=True):
    """These documents are committed; these are still wanted."""

    ids: tuple[bytes, ...]
    documents_wanted: tuple[bytes, ...] = ()


Message = (
    Hello
    | Entries
    | Confirm
    | Expect
    | HashAt
    | HashIs
    | Stale
    | Refused
    | Again
    | Ping
    | Pong
    | ForgottenWanted
    | Forgotten
    | Documents
    | DocConfirm
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def _str8(text: str) -> bytes:
    raw = text.encode("utf-8")
    if len(raw) > 255:
        raise codec_error(f"A text of {len(raw)} bytes does not fit into a field of 255.")
    return bytes((len(raw),)) + raw


def codec_error(detail: str) -> SyncError:
    """The error of every message that cannot be read or written."""
    return SyncError("sync.codec", detail, retry=Retry.NEVER)


def encode(message: Message) -> bytes:
    """The message alone, for keeping."""
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message:
    """The inverse of `encode`; raises `sync.codec`."""
    try:
        return _DECODER.decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError) as exc:
        raise codec_error("A message has a form that this program does not know.") from exc


def signed_bytes(topic: str, payload: bytes) -> bytes:
    """What a frame's signature covers."""
    return MESSAGE_DOMAIN + _str8(topic) + _U32.pack(len(payload)) + payload


def proof_bytes(tenant: str, hub: bytes, place: Place, time_us: int) -> bytes:
    """What a proof's signature covers."""
    return PROOF_DOMAIN + _str8(tenant) + _PROOF_TAIL.pack(hub, place.line, place.seq, place.hash, time_us)


def key_bytes(key_id: str, public_key: bytes) -> bytes:
    """What the root signs to vouch for a key of the cloud."""
    return KEY_DOMAIN + _str8(key_id) + public_key


class Packed(Struct, frozen=True):
    """A message in the bytes in which it travels, but for addressee and signature: the part that takes time."""

    encoding: int
    data: bytes


def pack(message: Message, *, compress: bool = True) -> Packed:
    """Encode, and compress what is long. Raises `sync.too_large` for a message that the protocol does not carry."""
    data = encode(message)
    if len(data) > MESSAGE_BYTES_MAX:
        raise too_large(len(data))
    if compress and len(data) > COMPRESS_ABOVE_BYTES:
        return Packed(ZLIB, zlib.compress(data, 1))
    return Packed(PLAIN, data)


class Sealer(Struct, frozen=True):
    """Signs the frames of one side."""

    topic: str
    key_id: str
    sign: Callable[[bytes], bytes]

    def seal(self, message: Message | Packed, to: bytes, *, compress: bool = True) -> bytes:
        """The frame. Raises `sync.too_large` for a message that the protocol does not carry."""
        packed = message if isinstance(message, Packed) else pack(message, compress=compress)
        payload = bytes((FRAME_VERSION, packed.encoding)) + _str8(self.key_id) + to + packed.data
        return self.sign(signed_bytes(self.topic, payload)) + payload


def too_large(size: int) -> SyncError:
    """A message beyond the limit (S13)."""
    return SyncError("sync.too_large", f"A message of {size} bytes is larger than {MESSAGE_BYTES_MAX}.")


class Frame(Struct, frozen=True):
    """A frame taken apart; nothing in it is to be believed before `check`."""

    key_id: str
    to: bytes
    encoding: int
    data: bytes
    payload: bytes
    signature: bytes

    def check(self, topic: str, public_key: bytes, verify: Callable[[bytes, bytes, bytes], bool]) -> bool:
        """Whether the signature is this key's over the frame on this topic."""
        return verify(public_key, self.signature, signed_bytes(topic, self.payload))

    def message(self) -> Message:
        """Decompress within the limit and decode; raises `sync.codec` or `sync.too_large`."""
        data = self.data
        if self.encoding == ZLIB:
            unpacker = zlib.decompressobj()
            try:
                data = unpacker.decompress(data, MESSAGE_BYTES_MAX + 1)
            except zlib.error as exc:
                raise codec_error("A message cannot be decompressed.") from exc
        elif self.encoding != PLAIN:
            raise codec_error(f"A message has the unknown encoding {self.encoding}.")
        if len(data) > MESSAGE_BYTES_MAX:
            raise too_large(len(data))
        return decode(data)


def open_frame(raw: bytes) -> Frame:
    """Take a frame apart; raises `sync.too_large` or `sync.codec`."""
    if len(raw) > MESSAGE_BYTES_MAX + 1024:
        raise too_large(len(raw))
    signature, payload = raw[:64], raw[64:]
    if len(payload) < 3 + NONCE_BYTES or payload[0] != FRAME_VERSION:
        raise codec_error("A message is not a frame of this protocol.")
    start = 3 + payload[2]
    try:
        key_id = payload[3:start].decode("ascii")
    except UnicodeDecodeError as exc:
        raise codec_error("A key id is not ASCII.") from exc
    to = payload[start : start + NONCE_BYTES]
    if len(to) != NONCE_BYTES:
        raise codec_error("A frame ends in its middle.")
    return Frame(key_id, to, payload[1], payload[start + NONCE_BYTES :], payload, signature)


def common_protocol(mine: tuple[int, int], theirs: tuple[int, int]) -> int:
    """The highest version that both speak; raises `sync.too_old` if there is none (S15)."""
    highest = min(mine[1], theirs[1])
    if highest < max(mine[0], theirs[0]):
        raise SyncError(
            "sync.too_old",
            f"Hub and cloud speak no common protocol ({mine[0]}-{mine[1]} and {theirs[0]}-{theirs[1]}).",
            remedy="Update the hub; until then it trades on and keeps everything.",
        )
    return highest
