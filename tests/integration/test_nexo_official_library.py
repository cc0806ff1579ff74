"""Our NexoBlob encryption against Adyen's own library for Node, in both directions and with both of its classes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.nexo_codec import (
    REQUEST,
    RESPONSE,
    NexoMessageError,
    decode_message,
    encode_message,
    request_header,
)
from drivers.nexo_crypto import NexoKey
from drivers.nexo_messages import decode_payment, payment_request
from hubd.model.money import Money
from hubd.runtime import system_runtime
from tests.unit.drivers.test_nexo_crypto import RECORDED

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / ".cache" / "adyen"
TIMEOUT_S = 50.0
KEY = NexoKey("CryptoKeyIdentifier12345", "".join(map(chr, range(32, 127))), 3)
HEADER = request_header("Payment", "0123456789", "hubd", "V400m-324688179")
CLEAR = {
    "ProtocolVersion": "3.0",
    "MessageClass": "Service",
    "MessageCategory": "Payment",
    "MessageType": "Response",
    "ServiceID": "0123456789",
    "SaleID": "hubd",
    "POIID": "V400m-324688179",
}
TEXTS = [json.dumps({RESPONSE: {"MessageHeader": CLEAR, "PaymentResponse": {"n": "€" * n}}}) for n in range(16)]
libraries = pytest.mark.parametrize("library", ["nexo", "manager"])
token_bytes: Callable[[int], bytes] = system_runtime().ids.token_bytes


def adyen(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the library answers to each request."""
    assert (LIBRARY / "node_modules").is_dir(), f"Adyen's library is not at {LIBRARY}; run scripts/fetch-adyen.sh"
    node = shutil.which("node")
    assert node, "there is no node; run scripts/install-debian-packages.sh"
    script = ROOT / "tests" / "peers" / "adyen" / "crypto.cjs"
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run(
        [node, str(script), str(LIBRARY)], input=lines, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def request(library: str, act: str, key: NexoKey = KEY, **more: object) -> dict[str, Any]:
    named = {"identifier": key.identifier, "version": key.version, "passphrase": key.passphrase}
    return {"library": library, "act": act, "key": named, **more}


@libraries
def test_what_adyen_encrypts_is_read_here(library: str) -> None:
    answers = adyen([request(library, "encrypt", header=CLEAR, text=text) for text in TEXTS])
    for text, answer in zip(TEXTS, answers, strict=True):
        data = json.dumps({RESPONSE: answer["message"]}).encode()
        header, content = decode_message(RESPONSE, data, KEY)
        assert json.loads(bytes(content)) == json.loads(text)[RESPONSE]
        assert header.service_id == "0123456789"


@libraries
def test_what_is_encrypted_here_is_read_by_adyen(library: str) -> None:
    bodies = [payment_request(f"order-{n} é", Money(2040 + n, "EUR"), "2026-11-30T21:43:12.000Z") for n in range(16)]
    messages = [json.loads(encode_message(REQUEST, HEADER, body, KEY, token_bytes(16)))[REQUEST] for body in bodies]
    answers = adyen([request(library, "decrypt", message=message) for message in messages])
    for n, answer in enumerate(answers):
        said = json.loads(answer["text"])[REQUEST]
        assert said["MessageHeader"] == messages[n]["MessageHeader"]
        assert said["PaymentRequest"]["SaleData"]["SaleTransactionID"]["TransactionID"] == f"order-{n} é"
        amounts = said["PaymentRequest"]["PaymentTransaction"]["AmountsReq"]
        assert amounts == {"Currency": "EUR", "RequestedAmount": (2040 + n) / 100}


@libraries
def test_both_refuse_what_was_changed(library: str) -> None:
    message = json.loads(encode_message(REQUEST, HEADER, {"x": 1}, KEY, token_bytes(16)))[REQUEST]
    other = json.loads(encode_message(REQUEST, HEADER, {"x": 2}, KEY, token_bytes(16)))[REQUEST]
    trailer = message["SecurityTrailer"]
    spoiled = [
        {**message, "NexoBlob": other["NexoBlob"]},
        {**message, "SecurityTrailer": {**trailer, "Hmac": other["SecurityTrailer"]["Hmac"]}},
        {**message, "SecurityTrailer": {**trailer, "Nonce": other["SecurityTrailer"]["Nonce"]}},
    ]
    answers = adyen([request(library, "decrypt", message=one) for one in (message, *spoiled)])
    assert [set(answer) for answer in answers] == [{"text"}, {"refused"}, {"refused"}, {"refused"}], answers
    for one in spoiled:
        with pytest.raises(NexoMessageError, match="not_authentic"):
            decode_message(REQUEST, json.dumps({REQUEST: one}).encode(), KEY)


@libraries
def test_both_read_the_recorded_answer_alike(library: str) -> None:
    key = NexoKey("CryptoKeyIdentifier12345", "p@ssw0rd123456")
    (answer,) = adyen([request(library, "decrypt", key=key, message=json.loads(RECORDED)[RESPONSE])])
    _, content = decode_message(RESPONSE, RECORDED, key)
    assert json.loads(answer["text"])[RESPONSE] == json.loads(bytes(content))
    assert decode_payment(content).amount == Money(100, "EUR")
