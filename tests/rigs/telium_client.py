"""A Caisse Concert cash register by somebody else (pyTeliumManager), as a program: one JSON request, one JSON answer.

Of its own because the package and what it imports warn, and block while they wait for the line.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from telium import Telium, TeliumAsk, TeliumResponse

ANSWER_TIMEOUT_S = 20


def ask(wanted: dict[str, Any]) -> Any:
    """A request as the package makes it."""
    return TeliumAsk.new_payment(
        wanted["amount_minor"] / 100,
        target_currency=wanted["currency"],
        checkout_unique_id=wanted["pos_number"],
        collect_payment_source_info=wanted["full"],
        force_bank_verification=wanted["online"],
    )


def asked(payload: str) -> dict[str, Any]:
    """What the package reads in a request."""
    read = TeliumAsk.decode(bytes.fromhex(payload))
    return {
        "amount_minor": round(read.amount * 100),
        "currency_number": read.currency_numeric,
        "pos_number": read.pos_number,
        "full": read.answer_flag == "1",
        "online": read.authorization == "B011",
        "mode": read.payment_mode,
        "kind": read.transaction_type,
        "delay": read.delay,
    }


def answered(answer: Any) -> dict[str, Any]:
    """What the package reads in an answer."""
    return {
        "amount_minor": round(answer.amount * 100),
        "currency_number": answer.currency_numeric,
        "pos_number": answer.pos_number,
        "mode": answer.payment_mode,
        "result": str(answer.transaction_result),
        "private": answer.private,
    }


def answer_bytes(wanted: dict[str, Any]) -> str:
    """An answer as the package makes it."""
    answer = TeliumResponse(
        wanted["pos_number"],
        wanted["result"],
        wanted["amount_minor"] / 100,
        wanted["mode"],
        wanted["report"],
        wanted["currency_number"],
        wanted["private"],
    )
    encoded: str = answer.encode()
    return encoded.encode("ascii").hex(" ")


def pay(path: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Pay at the terminal on this line; a pseudo-terminal has no seven bits with parity, so 8N1."""
    device = Telium(path)
    request = ask(wanted)
    try:
        ready = device.is_ok()
        if not device.ask(request):
            return {"ready": ready, "taken": False}
        return {"ready": ready, "taken": True, **answered(device.verify(request, ANSWER_TIMEOUT_S))}
    finally:
        device.close()


def main(request: dict[str, Any]) -> Any:
    """One request."""
    match request:
        case {"pay": path, "ask": wanted}:
            return pay(path, wanted)
        case {"encode_asks": wanted}:
            return [ask(one).encode().encode("ascii").hex(" ") for one in wanted]
        case {"decode_asks": payloads}:
            return [asked(one) for one in payloads]
        case {"encode_answers": wanted}:
            return [answer_bytes(one) for one in wanted]
        case {"decode_answers": payloads}:
            return [answered(TeliumResponse.decode(bytes.fromhex(one))) for one in payloads]
    raise ValueError(f"nothing is known of {sorted(request)}")


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
