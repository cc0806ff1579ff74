"""NexoBlob: the published vectors, and what a message must not get away with."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.nexo_codec import RESPONSE, decode_message
from drivers.nexo_crypto import (
    NONCE_BYTES,
    NexoCryptoError,
    NexoKey,
    NexoKeyError,
    Sealed,
    derive_keys,
    seal,
    unseal,
)

PASSPHRASE = "p@ssw0rd123456"
KEY = NexoKey("CryptoKeyIdentifier12345", PASSPHRASE)
NONCE = bytes(range(NONCE_BYTES))
RECORDED = (Path(__file__).parent / "recorded" / "nexo_payment.json").read_bytes()
"""An answer of a P400Plus in the test environment, as Adyen publishes it with its library for Node."""


WHOLE = seal(b'{"amount":20.40,"currency":"EUR"}', KEY, NONCE)


def flipped(text: str, at: int) -> str:
    data = bytearray(base64.b64decode(text))
    data[at] ^= 0x01
    return base64.b64encode(data).decode()


def spoiled(name: str, text: str, at: int) -> dict[str, Any]:
    return {name: flipped(text, at)}


def test_keys_of_the_published_passphrase() -> None:
    keys = derive_keys(PASSPHRASE)
    assert keys.hmac_key.hex() == "733636253b5b98f9a483b1a678d73a58dab2accafbc029ecbe12d60eaa909e32"
    assert keys.aes_key.hex() == "cf2c822761b9f5305bf69970bfa7b659a6724a119db21f8b0e949779f2ea022c"
    assert keys.iv.hex() == "bb9ba8092e6027c735398dc65977c051"


def test_a_passphrase_is_ascii() -> None:
    """Adyen's library for Node takes the low byte of each letter, which loses some; nobody says what terminals take."""
    with pytest.raises(ValueError, match="ascii"):
        derive_keys("pässword")


def test_a_recorded_answer_is_read() -> None:
    header, content = decode_message(RESPONSE, RECORDED, KEY)
    assert (header.category, header.message_type, header.poiid) == ("Payment", "Response", "P400Plus-275039202")
    said = json.loads(bytes(content))["PaymentResponse"]
    assert said["PaymentResult"]["AmountsResp"] == {"AuthorizedAmount": 1, "Currency": "EUR"}
    assert said["POIData"]["POITransactionID"]["TransactionID"] == "4r7i001557325515012.8815573255107661"


def test_a_recorded_answer_is_made_again_from_its_plaintext() -> None:
    secured = json.loads(RECORDED)[RESPONSE]
    trailer = secured["SecurityTrailer"]
    sealed = Sealed(secured["NexoBlob"], trailer["Hmac"], trailer["Nonce"], trailer["KeyIdentifier"], 1)
    assert seal(unseal(sealed, KEY), KEY, base64.b64decode(trailer["Nonce"])) == sealed


@given(st.binary(max_size=2000), st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES), st.text(min_size=1, max_size=9))
def test_what_is_sealed_is_unsealed(plaintext: bytes, nonce: bytes, identifier: str) -> None:
    key = NexoKey(identifier, PASSPHRASE, 7)
    assert unseal(seal(plaintext, key, nonce), key) == plaintext


@pytest.mark.parametrize("size", [0, 8, 15, 17, 32])
def test_a_nonce_has_sixteen_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        seal(b"{}", KEY, bytes(size))
    with pytest.raises(NexoCryptoError):
        unseal(replace(WHOLE, nonce=base64.b64encode(bytes(size)).decode()), KEY)


def test_bad_padding_and_a_bad_hmac_are_the_same_error() -> None:
    spoiled = {
        "padding": replace(WHOLE, blob=flipped(WHOLE.blob, 15)),
        "content": replace(WHOLE, nonce=flipped(WHOLE.nonce, 0)),
        "hmac": replace(WHOLE, hmac=flipped(WHOLE.hmac, 0)),
        "short hmac": replace(WHOLE, hmac=base64.b64encode(base64.b64decode(WHOLE.hmac)[:16]).decode()),
        "no hmac": replace(WHOLE, hmac=""),
        "no block": replace(WHOLE, blob=""),
        "half a block": replace(WHOLE, blob=base64.b64encode(bytes(8)).decode()),
        "no base64": replace(WHOLE, blob="{}"),
        "no latin": replace(WHOLE, blob="é" * 24),
    }
    errors = set()
    for sealed in spoiled.values():
        with pytest.raises(NexoCryptoError) as caught:
            unseal(sealed, KEY)
        errors.add(repr(caught.value))
    assert len(errors) == 1, errors


def test_every_bit_of_blob_hmac_and_nonce_is_covered() -> None:
    for name in ("blob", "hmac", "nonce"):
        text = getattr(WHOLE, name)
        for at in range(len(base64.b64decode(text))):
            with pytest.raises(NexoCryptoError):
                unseal(replace(WHOLE, **spoiled(name, text, at)), KEY)


@pytest.mark.parametrize("other", [{"key_identifier": "Other"}, {"key_version": 2}, {"crypto_version": 0}])
def test_another_key_is_refused_without_naming_it(other: dict[str, Any]) -> None:
    with pytest.raises(NexoKeyError) as caught:
        unseal(replace(WHOLE, **other), KEY)
    assert "Other" not in str(caught.value)
    assert KEY.identifier not in str(caught.value)


def test_another_passphrase_is_not_authentic() -> None:
    with pytest.raises(NexoCryptoError):
        unseal(WHOLE, NexoKey(KEY.identifier, "another"))


def test_secrets_are_not_shown() -> None:
    shown = repr(KEY) + repr(derive_keys(PASSPHRASE))
    assert PASSPHRASE not in shown
    assert "hmac_key" not in shown


@given(st.text(max_size=200), st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_refused_and_nothing_breaks(blob: str, hmac: str, nonce: str) -> None:
    with pytest.raises(NexoCryptoError):
        unseal(Sealed(blob, hmac, nonce, KEY.identifier, KEY.version), KEY)
