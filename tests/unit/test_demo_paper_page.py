"""The page with the demo printer's paper, in front of the simulated printer itself."""

from __future__ import annotations

import httpx2
import pytest
from msgspec.structs import astuple

from drivers.sim.escpos import EscposSimulator
from hubd.demo.paper_page import RECEIPTS_SHOWN, WORDS, PaperPage
from hubd.demo.store import paper_sockets
from hubd.errors import DeviceError
from hubd.runtime import system_runtime
from local_api.page.words import LANGUAGES

RUNTIME = system_runtime()


def page_of(printer: EscposSimulator | None) -> PaperPage:
    async def look(**request: object) -> dict[str, object]:
        if printer is None:
            raise DeviceError("demo.simulator_silent", "Receipt printer does not answer.")
        return await printer.control(dict(request))

    return PaperPage(look, 8080, "hubctl demo")


async def get(page: PaperPage, path: str, method: str = "GET", **headers: str) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=page)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.request(method, path, headers=headers)


def printer_with(*receipts: str) -> EscposSimulator:
    printer = EscposSimulator(RUNTIME)
    for text in receipts:
        for byte in text.encode("ascii"):
            printer.paper.do(bytes((byte,)))
        printer.paper.do(b"\n")
        printer.paper.do(b"\x1dV\x00")
    return printer


def test_it_speaks_the_languages_of_the_status_page_and_leaves_no_sentence_out() -> None:
    assert set(WORDS) == set(LANGUAGES)
    for words in WORDS.values():
        assert all(sentence.strip() for sentence in astuple(words))
    for name in WORDS["en"].__struct_fields__:
        assert len({getattr(words, name) for words in WORDS.values()}) == len(WORDS), f"{name} is not translated"


@pytest.mark.parametrize(
    ("query", "accepted", "language"),
    [("", "nl-BE,fr;q=0.8", "nl"), ("?language=fr", "nl", "fr"), ("?language=de", "de", "en"), ("", "de, FR", "fr")],
)
async def test_the_language_is_the_one_asked_for_or_the_browsers(query: str, accepted: str, language: str) -> None:
    answer = await get(page_of(printer_with()), f"/{query}", **{"accept-language": accepted})
    assert f"<html lang='{language}'>" in answer.text
    assert WORDS[language].nothing_yet in answer.text


async def test_it_shows_the_newest_receipts_and_lets_nothing_of_them_be_markup() -> None:
    printer = printer_with(*(f"receipt {number}." for number in range(RECEIPTS_SHOWN + 5)), "<script>alert(1)</script>")
    text = (await get(page_of(printer), "/paper")).text
    assert text.count("<article") == RECEIPTS_SHOWN
    assert "receipt 24." in text
    assert "receipt 5." not in text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


async def test_it_says_how_the_printer_is_and_what_to_type() -> None:
    printer = printer_with("one")
    page, words = page_of(printer), WORDS["en"]
    assert words.ready in (await get(page, "/")).text
    printer.load_paper(0)
    assert f"{words.no_paper} <code>hubctl demo paper-in</code>" in (await get(page, "/paper")).text
    await printer.unplug()
    assert f"{words.unplugged} <code>hubctl demo replug printer</code>" in (await get(page, "/paper")).text
    assert words.silent in (await get(page_of(None), "/paper")).text


async def test_there_is_nothing_else_and_nothing_to_send() -> None:
    page = page_of(printer_with("one"))
    for path, status in (("/", 200), ("/paper", 200), ("/paper.css", 200), ("/paper.js", 200), ("/other", 404)):
        answer = await get(page, path)
        assert (answer.status_code, answer.headers["cache-control"]) == (status, "no-store")
        assert "'unsafe" not in answer.headers["content-security-policy"]
    assert "article" in (await get(page, "/paper.css")).text
    assert "style=" not in (await get(page, "/")).text, "the policy allows none"
    assert (await get(page, "/", "POST")).status_code == 405
    head = await get(page, "/paper", "HEAD")
    assert (head.content, int(head.headers["content-length"]) > 0) == (b"", True)


def test_a_port_that_is_taken_does_not_keep_the_demo_from_opening() -> None:
    (first,) = paper_sockets(0)
    taken = first.getsockname()[1]
    (second,) = paper_sockets(taken)
    with first, second:
        assert second.getsockname()[1] not in {0, taken}
