"""IPP in bytes: the examples of RFC 8010 appendix A, both ways, and whatever else a printer may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ipp_codec import (
    Operation,
    bounded,
    decode,
    encode,
    number,
    request,
    words,
)
from hubd.model.ipp import VALUES_MAX, IppFormatError, Tag, attribute

URI = "ipp://printer.example.com/ipp/print/pinetree"
HEAD = (
    "0147 0012 617474726962757465732d63686172736574 0005 7574662d38"
    + " 48 001b 617474726962757465732d6e61747572616c2d6c616e6775616765 0005 656e2d7573"
)
A_1 = bytes.fromhex(
    "0101 0002 00000001"
    + HEAD
    + "45 000b 7072696e7465722d757269 002c"
    + URI.encode().hex()
    + "42 0008 6a6f622d6e616d65 0006 666f6f626172"
    + "22 0016 6970702d6174747269627574652d666964656c697479 0001 01"
    + "02 21 0006 636f70696573 0004 00000014"
    + "44 0005 7369646573 0013 74776f2d73696465642d6c6f6e672d65646765"
    + "03"
    + b"%!PDF...".hex()
)
"""RFC 8010 A.1: a Print-Job request."""
A_2 = bytes.fromhex(
    "0101 0000 00000001"
    + HEAD
    + "41 000e 7374617475732d6d657373616765 000d 7375636365737366756c2d6f6b"
    + "02 21 0006 6a6f622d6964 0004 00000093"
    + "45 0007 6a6f622d757269 0030"
    + f"{URI}/123".encode().hex()
    + "23 0009 6a6f622d7374617465 0004 00000003"
    + "03"
)
"""RFC 8010 A.2: its answer, successful-ok."""


def test_the_request_of_the_standard_is_written() -> None:
    operation = (
        attribute("attributes-charset", Tag.CHARSET, "utf-8"),
        attribute("attributes-natural-language", Tag.LANGUAGE, "en-us"),
        attribute("printer-uri", Tag.URI, URI),
        attribute("job-name", Tag.NAME, "foobar"),
        attribute("ipp-attribute-fidelity", Tag.BOOLEAN, True),
    )
    job = (attribute("copies", Tag.INTEGER, 20), attribute("sides", Tag.KEYWORD, "two-sided-long-edge"))
    made = encode(Operation.PRINT_JOB, 1, [(Tag.OPERATION, operation), (Tag.JOB, job)], b"%!PDF...")
    assert made == A_1


def test_both_examples_of_the_standard_are_read() -> None:
    asked = decode(A_1)
    assert (asked.code, asked.request_id, asked.document) == (Operation.PRINT_JOB, 1, b"%!PDF...")
    assert words(asked.group(Tag.OPERATION), "printer-uri") == (URI,)
    assert asked.group(Tag.OPERATION)["ipp-attribute-fidelity"] == (True,)
    assert number(asked.group(Tag.OPERATION), "ipp-attribute-fidelity") is None, "a boolean is no number"
    assert number(asked.group(Tag.JOB), "copies") == 20
    said = decode(A_2)
    assert said.good
    assert (number(said.group(Tag.JOB), "job-id"), number(said.group(Tag.JOB), "job-state")) == (147, 3)
    assert said.group(Tag.PRINTER) == {}


def test_several_values_jobs_and_collections() -> None:
    collection = "34 0009 6d656469612d636f6c 0000 4a 0000 000a 6d656469612d73697a65 44 0000 0003 612d34 37 0000 0000"
    data = bytes.fromhex(
        "0200 0406 0000000a 01 02 21 0006 6a6f622d6964 0004 fffffffe 21 0000 0004 00000002"
        + collection
        + "36 0008 6a6f622d6e616d65 0009 0002 6672 0003 c3a974"
        + "13 0005 6f74686572 0000 02 21 0006 6a6f622d6964 0004 00000003 03"
    )
    read = decode(data)
    assert not read.good
    first, second = read.all(Tag.JOB)
    assert first["job-id"] == (-2, 2)
    assert first["job-name"] == ("ét",), "a name with its language"
    assert first["other"] == (), "no value"
    assert "media-size" not in first
    assert second == {"job-id": (3,)}


def test_a_request_begins_with_what_each_has_to_begin_with() -> None:
    read = decode(request(Operation.GET_JOBS, 7, URI, [attribute("limit", Tag.INTEGER, -1, 5)]))
    assert list(read.group(Tag.OPERATION)) == [
        "attributes-charset",
        "attributes-natural-language",
        "printer-uri",
        "limit",
    ]
    assert (read.code, read.request_id, read.group(Tag.OPERATION)["limit"]) == (Operation.GET_JOBS, 7, (-1, 5))


@pytest.mark.parametrize("data", [b"", b"\x01", A_2[:-1], A_2[:40], b"HTTP/1.1 200 OK", b"\x03" + A_2[1:]])
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(IppFormatError):
        decode(data)


def test_a_printer_that_talks_without_end_is_refused() -> None:
    too_many = (attribute("x", Tag.INTEGER, *range(VALUES_MAX + 1)),)
    with pytest.raises(IppFormatError):
        decode(encode(0, 1, [(Tag.JOB, too_many)]))


@given(st.binary(max_size=200))
def test_no_bytes_stop_the_reader(data: bytes) -> None:
    for given_data in (data, A_2[:8] + data, A_2[:-1] + data):
        try:
            decode(given_data)
        except IppFormatError:
            continue


@given(st.text(max_size=300), st.integers(0, 260))
def test_a_bounded_text_fits_and_is_a_beginning(text: str, most: int) -> None:
    kept = bounded(text, most)
    assert len(kept.encode()) <= most
    assert text.startswith(kept)
    assert bounded("é" * 200, 255) == "é" * 127


def test_a_name_that_is_not_utf_8_does_not_keep_a_printer_from_being_read() -> None:
    latin = bytes.fromhex("0101 0000 00000001 04 41 000c 7072696e7465722d696e666f 0003 e974e9 03")
    assert words(decode(latin).group(Tag.PRINTER), "printer-info") == ("\ufffdt\ufffd",)
