"""What the short way reads, h11 reads the same; whatever is not plain goes to h11."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_api.ordinary import Ordinary, ordinary, scope_of

HEAD_BYTES_MAX = 1_024
PLAIN = b"PUT /v1/payments/1?a=b%20c HTTP/1.1\r\nHost: hub\r\nContent-Length: 2\r\nX-Till:  one two \r\n\r\n{}"

parts = st.one_of(
    st.sampled_from(
        [
            b"GET ",
            b"PUT /v1/payments/1 HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.0\r\n",
            b"Host: hub\r\n",
            b"Host:hub\r\n",
            b"Content-Length: 2\r\n",
            b"Content-Length: 0\r\n",
            b"Content-Length: 02\r\n",
            b"Content-Length: +2\r\n",
            b"content-length: 2, 2\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: keep-alive\r\n",
            b"Connection: close\r\n",
            b"Expect: 100-continue\r\n",
            b"X-One: a\tb \t\r\n",
            b"X-Two:\r\n",
            b"X Three: a\r\n",
            b" folded\r\n",
            b"\r\n",
            b"\n",
            b"{}",
            b":",
        ]
    ),
    st.binary(max_size=4),
)


def read_by_h11(data: bytes) -> Ordinary:
    """The same bytes through the state machine; raises what it raises."""
    conn = h11.Connection(h11.SERVER, HEAD_BYTES_MAX)
    conn.receive_data(data)
    request = conn.next_event()
    assert isinstance(request, h11.Request), request
    assert request.http_version == b"1.1"
    body = b""
    while not isinstance(event := conn.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        body += event.data
    assert conn.trailing_data == (b"", False)
    assert conn.our_state is h11.SEND_RESPONSE
    assert not conn.they_are_waiting_for_100_continue
    return Ordinary(request.method.decode(), request.target, list(request.headers), body)


@given(st.lists(parts, max_size=9).map(b"".join))
def test_what_is_ordinary_reads_the_same_in_h11(data: bytes) -> None:
    found = ordinary(data, HEAD_BYTES_MAX)
    if found is not None:
        assert found == read_by_h11(data)


@given(st.lists(parts, max_size=5).map(b"".join), st.sampled_from([b"", b"{}"]))
def test_what_is_ordinary_reads_the_same_in_h11_with_any_headers(headers: bytes, body: bytes) -> None:
    data = b"PUT /v1/payments/1 HTTP/1.1\r\nHost: hub\r\n" + headers + b"\r\n" + body
    found = ordinary(data, HEAD_BYTES_MAX)
    if found is not None:
        assert found == read_by_h11(data)


def test_a_plain_request_is_read_whole() -> None:
    found = ordinary(PLAIN, HEAD_BYTES_MAX)
    headers = [(b"host", b"hub"), (b"content-length", b"2"), (b"x-till", b"one two")]
    assert found == Ordinary("PUT", b"/v1/payments/1?a=b%20c", headers, b"{}") == read_by_h11(PLAIN)
    scope = scope_of(found, {"type": "http"}, {})
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
        "/v1/payments/1",
        b"/v1/payments/1",
        b"a=b%20c",
    )
    assert scope_of(found._replace(target=b"/a%2Fb%C3%A9"), {}, {})["path"] == "/a/bé"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"PUT ", b"PATCH "),
        (b"PUT ", b"HEAD "),
        (b"PUT ", b"put "),
        (b" /v1", b" v1"),
        (b" /v1", b" http://hub/v1"),
        (b" /v1", b" /\xc3\xa9v1"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"HTTP/2.0"),
        (b"Host: hub\r\n", b""),
        (b"Host: hub\r\n", b"Host: hub\r\nHost: other\r\n"),
        (b"Host: hub", b"Host : hub"),
        (b"Host: hub\r\n", b"Host: hub\n"),
        (b"one two", b"one\0two"),
        (b"one two", b"\xc3\xa9"),
        (b"one two", b"one\r\n two"),
        (b"X-Till", b"Connection"),
        (b"X-Till", b"Upgrade"),
        (b"X-Till", b"Expect"),
        (b"X-Till", b"Transfer-Encoding"),
        (b"X-Till", b"Content-Length"),
        (b"Length: 2", b"Length: 3"),
        (b"Length: 2", b"Length: 1"),
        (b"Length: 2", b"Length: 2, 2"),
        (b"Length: 2", b"Length: -2"),
        (b"Content-Length: 2\r\n", b""),
        (b"\r\n\r\n{}", b"\r\n"),
        (b"one two", b"x" * HEAD_BYTES_MAX),
    ],
)
def test_what_is_not_plain_goes_to_h11(old: bytes, new: bytes) -> None:
    assert PLAIN.count(old) == 1
    assert ordinary(PLAIN.replace(old, new), HEAD_BYTES_MAX) is None
