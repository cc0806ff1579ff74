"""A payment as a value, with what a test says of it."""

from __future__ import annotations

from msgspec.structs import replace

from hubd.model.payment import Method, Mode, Payment, PaymentKind, PaymentState, Tender

BASE = Payment(
    id="01890000-0000-7000-8000-00000000000f",
    seq=1,
    line=bytes(16),
    hash=bytes(32),
    last_seq=1,
    digest=bytes(32),
    kind=PaymentKind.SALE,
    state=PaymentState.UNKNOWN,
    custody=None,
    manual=None,
    decided_on=None,
    before_reversal=None,
    mode=Mode.LIVE,
    tender=Tender.CARD,
    method=Method.CARD,
    amount=1250,
    tip=0,
    rounding=0,
    currency="EUR",
    order_id=None,
    original_id=None,
    till="till",
    terminal="t1",
    staff=None,
    location="l1",
    business_date="2026-11-18",
    zone="Europe/Paris",
    outage=None,
    policy_version=None,
    series=None,
    counter=None,
    baseline="",
    reason="",
    evidence={},
    receipt_document=None,
    deadline_us=None,
    requested_at_us=1,
    updated_at_us=1,
)


def a_payment(**more: object) -> Payment:
    return replace(BASE, **more)
