"""Frames, their signatures and limits, and that the reference page names what the program says."""

from __future__ import annotations

import re
import typing
import zlib
from pathlib import Path

import msgspec
import pytest

from hubd.cloud_ports import LinkAddress
from hubd.errors import SyncError
from hubd.identity import KeySigner, hub_id_of, key_id_of, load_or_create_key, verify_signature
from sync import codec
from sync.cloud import keys as cloud_keys
from sync.cloud.cloud import enrol_bytes, renew_bytes
from sync.cloud.topics import hub_of, topic_of
from sync.codec import MESSAGE_BYTES_MAX, NO_NONCE, Entries, Ping, Sealer, WireEntry, open_frame

SIGNER = KeySigner(b"k" * 32)
SEALER = Sealer("a/topic", key_id_of(SIGNER.public_key), SIGNER.sign)
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "sync.asyncapi.yaml"


def batch(size: int) -> Entries:
    return Entries(b"l" * 16, 1, bytes(32), (WireEntry(b"head", b"x" * size),), b"h" * 32)


@pytest.mark.parametrize("size", [10, 5_000, 60_000])
def test_what_is_sealed_is_read_again(size: int) -> None:
    frame = open_frame(SEALER.seal(batch(size), b"n" * 16))
    assert frame.check("a/topic", SIGNER.public_key, verify_signature)
    assert frame.to == b"n" * 16
    assert frame.message() == batch(size)
    assert frame.encoding == (codec.ZLIB if size > 1_024 else codec.PLAIN)


def test_every_bit_and_the_topic_are_signed() -> None:
    raw = SEALER.seal(Ping(7), NO_NONCE)
    assert not open_frame(raw).check("another/topic", SIGNER.public_key, verify_signature)
    for position in range(64, len(raw)):
        spoiled = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        try:
            frame = open_frame(spoiled)
        except SyncError:
            continue
        assert not frame.check("a/topic", SIGNER.public_key, verify_signature)


@pytest.mark.parametrize("cut", range(0, 90, 7))
def test_cut_frames_are_refused_and_never_crash(cut: int) -> None:
    with pytest.raises(SyncError):
        open_frame(SEALER.seal(Ping(7), NO_NONCE)[:cut]).message()


def test_s13_bomb_and_giant_are_refused() -> None:
    payload = bytes((1, codec.ZLIB, 0)) + NO_NONCE + zlib.compress(bytes(50_000_000))
    with pytest.raises(SyncError, match="too_large"):
        open_frame(bytes(64) + payload).message()
    with pytest.raises(SyncError, match="too_large"):
        SEALER.seal(batch(MESSAGE_BYTES_MAX), NO_NONCE)
    with pytest.raises(SyncError, match="too_large"):
        open_frame(bytes(MESSAGE_BYTES_MAX + 5_000))


def test_garbage_inside_a_frame_is_a_codec_error() -> None:
    for data in (b"", b"\xc1", b"\x81\xa1t\xa4what", zlib.compress(b"no message")):
        for encoding in (codec.PLAIN, codec.ZLIB, 9):
            with pytest.raises(SyncError, match="codec"):
                open_frame(bytes(64) + bytes((1, encoding, 0)) + NO_NONCE + data).message()


def test_an_addresss_text_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(LinkAddress("t", SIGNER.hub_id.hex(), "c", username="u", password="hunter2"))


def test_both_sides_name_topics_keys_and_requests_alike() -> None:
    address = LinkAddress("t", SIGNER.hub_id.hex(), "c")
    for leaf in ("up", "down", "state"):
        assert address.topic(leaf) == topic_of("t", SIGNER.hub_id, leaf)
    assert hub_of(address.topic("up")) == SIGNER.hub_id
    assert hub_of("hubd/1/t/00/zz/up") is None
    assert cloud_keys.key_id_of(SIGNER.public_key) == key_id_of(SIGNER.public_key)
    assert cloud_keys.hub_id_of(SIGNER.public_key) == hub_id_of(SIGNER.public_key)
    assert enrol_bytes("c", b"k", b"n") == b"hubd.enrol.v1\0\x01ck\x01n"
    assert renew_bytes(b"h", -1, b"n") == b"hubd.renew.v1\0h" + b"\xff" * 8 + b"\x01n"


def test_reference_page_names_every_message_and_field() -> None:
    shown = re.findall(
        r"^    (\w+):\n      summary: .+\n      payload: .*x-fields: \[(.*)\]", PAGE.read_text("utf-8"), re.M
    )
    page = {name: fields.split(", ") for name, fields in shown}
    said: dict[str, list[str]] = {}
    for struct in typing.get_args(codec.Message):
        said[struct.__struct_config__.tag] = [field.name for field in msgspec.structs.fields(struct)]
    assert page == said


def test_key_file_is_private_stays_the_same_and_is_never_replaced_when_damaged(tmp_path: Path) -> None:
    file = tmp_path / "hub.key"
    first = load_or_create_key(file, lambda count: b"r" * count)
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_or_create_key(file, lambda count: b"s" * count).hub_id == first.hub_id
    assert "r" * 8 not in repr(first)
    file.write_bytes(b"short")
    with pytest.raises(Exception, match="unreadable"):
        load_or_create_key(file, lambda count: b"s" * count)
    assert file.read_bytes() == b"short"
