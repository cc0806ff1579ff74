"""Templates, stylesheet and script, read once at import, and one Jinja environment for each language."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import segno
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from local_api.page.words import LANGUAGES, catalogue, load_all

HERE = Path(__file__).parent
TEMPLATES = {path.name: path.read_text("utf-8") for path in sorted((HERE / "templates").glob("*.html"))}
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
load_all()


def _named(path: Path) -> tuple[str, bytes, str]:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:12]
    return f"{path.stem}-{digest}{path.suffix}", content, _TYPES[path.suffix]


STATIC = {name: (content, kind) for name, content, kind in map(_named, sorted((HERE / "static").iterdir()))}
"""Name with the digest of its content -> bytes and type; a changed file has another name, so browsers keep them."""
STYLESHEET = next(f"/static/{name}" for name in STATIC if name.endswith(".css"))
SCRIPT = next(f"/static/{name}" for name in STATIC if name.endswith(".js"))


@cache
def environment(language: str) -> Environment:
    """The templates in one language; a name that the view forgot is an error, not an empty place."""
    found = Environment(
        loader=DictLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    words = catalogue(language)
    install: Any = found
    install.install_gettext_callables(words.gettext, words.ngettext, newstyle=True)
    return found


def compile_all() -> None:
    """Compile every template in every language now, so that no visitor waits for it."""
    for language in LANGUAGES:
        for name in TEMPLATES:
            environment(language).get_template(name)


def render(name: str, language: str, values: dict[str, Any]) -> bytes:
    """A page."""
    return environment(language).get_template(name).render(values).encode("utf-8")


def qr_svg(text: str, title: str) -> Markup:
    """A QR code as an inline picture, made here, readable aloud by its title."""
    code = segno.make(text, error="m", micro=False)
    # segno escapes the title; everything else in its answer is its own.
    return Markup(code.svg_inline(border=2, title=title, omitsize=True))
