"""Templates, stylesheet and script, read once at import, and compiled once for all languages."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import segno
from jinja2 import DictLoader, Environment, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from local_api.page.words import catalogue, load_all

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
SCRIPT = next(f"/static/{name}" for name in STATIC if name.startswith("page-") and name.endswith(".js"))
CHECK_SCRIPT = next(f"/static/{name}" for name in STATIC if name.startswith("check-"))


@pass_context
def _gettext(context: Context, text: str, /, **values: Any) -> Markup:
    return Markup(catalogue(context["language"]).gettext(text)) % values


@pass_context
def _ngettext(context: Context, singular: str, plural: str, count: int, /, **values: Any) -> Markup:
    sentence = catalogue(context["language"]).ngettext(singular, plural, count)
    return Markup(sentence) % ({"num": count} | values)


def _environment() -> Environment:
    """The templates, in every language at once; a name that the view forgot is an error, not an empty place."""
    found = Environment(
        loader=DictLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.globals |= {"_": _gettext, "ngettext": _ngettext}
    return found


ENVIRONMENT = _environment()


def compile_all() -> None:
    """Compile every template now, so that no visitor waits for it."""
    for name in TEMPLATES:
        ENVIRONMENT.get_template(name)


def render(name: str, language: str, values: dict[str, Any]) -> bytes:
    """A page in the language that `values` are made for."""
    return ENVIRONMENT.get_template(name).render({**values, "language": language}).encode("utf-8")


def qr_svg(text: str, title: str) -> Markup:
    """A QR code as an inline picture, made here, readable aloud by its title."""
    code = segno.make(text, error="m", micro=False)
    # segno escapes the title; everything else in its answer is its own.
    return Markup(code.svg_inline(border=2, title=title, omitsize=True))
