"""Templates, stylesheet and script, read once at import, and compiled once for all languages when first needed."""

from __future__ import annotations

import asyncio
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from local_api.page.words import catalogue, load_all

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.runtime import Context

HERE = Path(__file__).parent
TEMPLATES = {path.name: path.read_text("utf-8") for path in sorted((HERE / "templates").glob("*.html"))}
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


def _named(path: Path) -> tuple[str, bytes, str]:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:12]
    return f"{path.stem}-{digest}{path.suffix}", content, _TYPES[path.suffix]


STATIC = {name: (content, kind) for name, content, kind in map(_named, sorted((HERE / "static").iterdir()))}
"""Name with the digest of its content -> bytes and type; a changed file has another name, so browsers keep them."""
STYLESHEET = next(f"/static/{name}" for name in STATIC if name.endswith(".css"))
SCRIPT = next(f"/static/{name}" for name in STATIC if name.startswith("page-") and name.endswith(".js"))
CHECK_SCRIPT = next(f"/static/{name}" for name in STATIC if name.startswith("check-"))


def _gettext(context: Context, text: str, /, **values: Any) -> Markup:
    return Markup(catalogue(context["language"]).gettext(text)) % values


def _ngettext(context: Context, singular: str, plural: str, count: int, /, **values: Any) -> Markup:
    sentence = catalogue(context["language"]).ngettext(singular, plural, count)
    return Markup(sentence) % ({"num": count} | values)


@cache
def _environment() -> Environment:
    """The templates, in every language at once; a name that the view forgot is an error, not an empty place."""
    from jinja2 import DictLoader, Environment, StrictUndefined, pass_context

    found = Environment(
        loader=DictLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.globals |= {"_": pass_context(_gettext), "ngettext": pass_context(_ngettext)}
    return found


@cache
def _compile_all() -> None:
    import segno  # noqa: F401 - loaded here for `qr_svg`, which runs in the event loop

    load_all()
    for name in TEMPLATES:
        _environment().get_template(name)


async def templates() -> None:
    """Return once every template is compiled. That takes longer than the rest of a start, and is done beside it."""
    if not _compile_all.cache_info().currsize:
        await asyncio.to_thread(_compile_all)


def render(name: str, language: str, values: dict[str, Any]) -> bytes:
    """A page in the language that `values` are made for."""
    return _environment().get_template(name).render({**values, "language": language}).encode("utf-8")


def qr_svg(text: str, title: str) -> Markup:
    """A QR code as an inline picture, made here, readable aloud by its title."""
    import segno

    code = segno.make(text, error="m", micro=False)
    # segno escapes the title; everything else in its answer is its own.
    return Markup(code.svg_inline(border=2, title=title, omitsize=True))
