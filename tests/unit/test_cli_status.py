"""What `hubctl status` tells a technician first: can the shop sell, and how."""

from __future__ import annotations

from hubd.cli.status import HOPS, hub_facts
from hubd.model.mode import Hop

ANSWER = {
    "hub": "ab" * 16,
    "version": "0.1.0",
    "api": "1.0",
    "fingerprint": "cd" * 32,
    "time": "2026-11-22T01:00:00+00:00",
    "clock_trusted": False,
    "hub_line": f"{'12' * 16}:4711:abcdef",
    "banners": [],
    "accepts": [
        {"way": "cash", "allowed": True, "limit": None, "reason": None},
        {"way": "cards", "allowed": True, "limit": {"amount": 5000, "currency": "EUR"}, "reason": None},
        {"way": "contactless", "allowed": False, "limit": None, "reason": "method_excluded"},
    ],
    "mode": "network_outage",
    "outage": "01890000-0000-7000-8000-0000000000c1",
    "failing": "gateway",
    "addresses": ["192.168.1.10:8443"],
}


def test_status_says_what_may_be_taken_before_anything_else() -> None:
    facts = dict(hub_facts(ANSWER))
    assert list(facts)[:4] == ["mode", "outage", "first that fails", "selling"]
    assert facts["first that fails"] == "gateway, the Internet box"
    assert facts["mode"] == "network outage"
    assert facts["selling"] == "cash yes · cards yes, up to 50.00 EUR · contactless no (method_excluded)"
    assert facts["journal"] == "4711 entries, line 12121212"
    assert str(facts["clock"]).endswith("not confirmed by anybody")


def test_status_of_a_hub_that_tells_a_stranger_little_is_no_error() -> None:
    facts = dict(hub_facts({"hub": "ab" * 16, "version": "0.1.0", "api": "1.0"}))
    assert facts["hub"] == "ab" * 16
    assert facts["selling"] == ""


def test_every_hop_has_a_name_for_people() -> None:
    assert set(HOPS) == set(Hop)
