"""The addresses that the check of a browser offers."""

from __future__ import annotations

from local_api.gate import is_same_host
from local_api.page.check import for_others


def test_loopback_is_offered_only_where_there_is_nothing_else() -> None:
    assert for_others(["127.0.0.1:8443", "192.168.1.5:8443"]) == ["192.168.1.5:8443"]
    assert for_others(["127.0.0.1:8443"]) == ["127.0.0.1:8443"]


def test_same_host_means_the_whole_name() -> None:
    assert is_same_host("http://192.168.1.5:8080", "192.168.1.5:8443")
    assert is_same_host("http://HUBD-1.local:8080", "hubd-1.local:8443")
    assert is_same_host("http://[fd00::1]:8080", "[fd00::1]:8443")
    for origin in (
        "",
        "null",
        "http://192.168.1.50:8080",
        "http://192.168.1.5.evil.example",
        "http://x@192.168.1.5:80",
    ):
        assert not is_same_host(origin, "192.168.1.5:8443"), origin
