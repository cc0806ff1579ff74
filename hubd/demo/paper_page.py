"""The page with the simulated printer's paper: what came out of the printer, not what the hub meant to print.

It belongs to the demo and to no hub: a listener of its own, on this machine only, that asks the simulator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from msgspec import Struct

from hubd.errors import DeviceError
from local_api.gate import Receive, Scope, Send

RECEIPTS_SHOWN = 20
Look = Callable[..., Awaitable[dict[str, Any]]]


class Words(Struct, frozen=True):
    """What the page says in one language."""

    title: str
    lead: str
    ready: str
    unplugged: str
    no_paper: str
    silent: str
    nothing_yet: str
    status_page: str
    stale: str
    languages: str


WORDS = {
    "en": Words(
        title="The printer's paper",
        lead="What the simulated receipt printer of the demo store has printed, newest first.",
        ready="The printer is plugged in and has paper.",
        unplugged="The printer is unplugged. Plug it in again:",
        no_paper="The printer is out of paper. Put in a new roll:",
        silent="The printer does not answer.",
        nothing_yet="Nothing has been printed yet. Sell something:",
        status_page="Status page of the hub",
        stale="The demo store does not answer. Is it still running?",
        languages="Language",
    ),
    "fr": Words(
        title="Le papier de l’imprimante",
        lead="Ce que l’imprimante à tickets simulée du magasin de démonstration a imprimé, le plus récent en premier.",
        ready="L’imprimante est branchée et a du papier.",
        unplugged="L’imprimante est débranchée. Rebranchez-la :",
        no_paper="L’imprimante n’a plus de papier. Mettez un nouveau rouleau :",
        silent="L’imprimante ne répond pas.",
        nothing_yet="Rien n’a encore été imprimé. Vendez quelque chose :",
        status_page="Page d’état du hub",
        stale="Le magasin de démonstration ne répond pas. Est-il encore en marche ?",
        languages="Langue",
    ),
    "nl": Words(
        title="Het papier van de printer",
        lead="Wat de gesimuleerde bonprinter van de demowinkel heeft afgedrukt, nieuwste eerst.",
        ready="De printer is aangesloten en heeft papier.",
        unplugged="De stekker van de printer is eruit. Steek hem er weer in:",
        no_paper="Het papier van de printer is op. Doe er een nieuwe rol in:",
        silent="De printer antwoordt niet.",
        nothing_yet="Er is nog niets afgedrukt. Verkoop iets:",
        status_page="Statuspagina van de hub",
        stale="De demowinkel antwoordt niet. Draait hij nog?",
        languages="Taal",
    ),
}
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; padding: 0 .75rem 2rem; background: #4a5157; color: #fff; font: 100%/1.5 system-ui, sans-serif; }
header, .state, .stale { max-width: 40rem; margin: 0 auto; }
header { padding: .75rem 0; } h1 { margin: 0; font-size: 1.5rem; line-height: 1.25; } header p { margin: .25rem 0; }
nav { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: 0 1rem; }
nav ul { display: flex; list-style: none; margin: 0; padding: 0; }
nav a, nav li span { display: inline-flex; align-items: center; justify-content: center; min-width: 2.25rem;
  min-height: 2.25rem; color: #fff; } nav li span { font-weight: 700; border-bottom: 3px solid; }
.state, .stale { border-radius: 8px; padding: .6rem .9rem; margin-bottom: 1.25rem; color: #1b211d; }
.state { background: #e3f3e8; }
.state.care, .stale { background: #fff1d9; border-left: 6px solid #8a4b00; }
.state p, .stale p { margin: 0; } code { overflow-wrap: anywhere; font-weight: 600; }
[hidden] { display: none; }
"""
_SCRIPT = """// Looks at the paper once a second while somebody looks at the page.
"use strict";
(() => {
  const paper = document.getElementById("paper"), stale = document.getElementById("stale");
  let shown = "", asking = false;
  const look = async () => {
    if (asking || document.hidden) return;
    asking = true;
    try {
      const answer = await fetch("/paper" + location.search, { signal: AbortSignal.timeout(4000) });
      if (!answer.ok) throw new Error(answer.status);
      const text = await answer.text();
      if (text !== shown) { paper.innerHTML = text; shown = text; }
      stale.hidden = true;
    } catch { stale.hidden = false; }
    asking = false;
  };
  setInterval(look, 1000);
  document.addEventListener("visibilitychange", look);
})();
"""


class PaperPage:
    """The ASGI application. `look` asks the printer; `command` is what a person types before a word."""

    def __init__(self, look: Look, hub_port: int, command: str) -> None:
        self._look = look
        self._hub_port = hub_port
        self._command = command

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET and HEAD of the page, its paper, style and script."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        status, body, kind = HTTPStatus.OK, b"", "text/html"
        language = _language(scope)
        if scope["method"] not in {"GET", "HEAD"}:
            status = HTTPStatus.METHOD_NOT_ALLOWED
        elif scope["path"] == "/":
            body = self._page(language, await self._paper(language)).encode()
        elif scope["path"] == "/paper":
            body = (await self._paper(language)).encode()
        elif scope["path"] == "/paper.css":
            body, kind = (_STYLE + str((await self._seen()).get("style", ""))).encode(), "text/css"
        elif scope["path"] == "/paper.js":
            body, kind = _SCRIPT.encode(), "text/javascript"
        else:
            status = HTTPStatus.NOT_FOUND
        headers = {**_HEADERS, "content-type": f"{kind}; charset=utf-8", "content-length": str(len(body))}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status.value, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _seen(self) -> dict[str, Any]:
        try:
            return await self._look(cmd="look", newest=RECEIPTS_SHOWN)
        except DeviceError:
            return {}

    async def _paper(self, language: str) -> str:
        words, seen = WORDS[language], await self._seen()
        if not seen:
            return _state(words.silent)
        paper = str(seen["paper"])
        if not seen["plugged"]:
            state = _state(words.unplugged, f"{self._command} replug printer")
        elif seen["paper_lines"] <= 0:
            state = _state(words.no_paper, f"{self._command} paper-in")
        elif not paper:
            state = _state(words.nothing_yet, f"{self._command} sale 12.00", care=False)
        else:
            state = _state(words.ready, care=False)
        return state + paper

    def _page(self, language: str, paper: str) -> str:
        words = WORDS[language]
        choices = "".join(
            f"<li><span aria-current='true' lang='{code}'>{code.upper()}</span></li>"
            if code == language
            else f"<li><a href='/?language={code}' lang='{code}' hreflang='{code}'>{code.upper()}</a></li>"
            for code in WORDS
        )
        return (
            f"<!doctype html><html lang='{language}'><head><meta charset='utf-8'>"
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{escape(words.title)}</title><link rel='icon' href='data:,'>"
            "<link rel='stylesheet' href='/paper.css'><script src='/paper.js' defer></script>"
            "<noscript><meta http-equiv='refresh' content='2'></noscript></head><body><header><nav>"
            f"<a href='http://localhost:{self._hub_port}/'>{escape(words.status_page)}</a>"
            f"<ul aria-label='{escape(words.languages)}'>{choices}</ul></nav>"
            f"<h1>{escape(words.title)}</h1><p>{escape(words.lead)}</p></header>"
            f"<div class='stale' id='stale' role='alert' hidden><p>{escape(words.stale)}</p></div>"
            f"<main id='paper'>{paper}</main></body></html>"
        )


def _state(sentence: str, command: str = "", *, care: bool = True) -> str:
    """How the printer is, and what a person types about it."""
    typed = f" <code>{escape(command)}</code>" if command else ""
    return f"<div class='state{' care' if care else ''}' role='status'><p>{escape(sentence)}{typed}</p></div>"


def _language(scope: Scope) -> str:
    """What the address asks for, else the browser's first that the page speaks, else English."""
    asked: str = parse_qs(scope["query_string"].decode("latin-1")).get("language", [""])[0]
    if asked in WORDS:
        return asked
    accepted: str = dict(scope["headers"]).get(b"accept-language", b"").decode("latin-1")
    known = [part.strip()[:2].casefold() for part in accepted.split(",")]
    return next((code for code in known if code in WORDS), "en")
