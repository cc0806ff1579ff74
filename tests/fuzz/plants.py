"""Bugs that the fuzzer must find: limits of real codecs lifted, checks taken out. A search that finds none is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from drivers import cas_codec, opi_codec, poslink_codec
from hubd.model import ipp


def _frames_without_bound() -> None:
    poslink_codec.FRAME_BYTES_MAX = 1 << 40


def _lines_without_bound() -> None:
    cas_codec.WAITING_BYTES_MAX = 1 << 40


def _elements_not_checked() -> None:
    opi_codec._BEGINNINGS = frozenset()


def _text_not_checked() -> None:
    ipp._text = lambda raw, errors: raw.decode()


PLANTS: Mapping[str, tuple[str, Callable[[], None], str]] = {
    "frames_without_bound": ("poslink", _frames_without_bound, "of endless noise"),
    "lines_without_bound": ("scales", _lines_without_bound, "of endless noise"),
    "documents_refused": ("opi", _elements_not_checked, "it came back as"),
    "text_not_checked": ("ipp_requests", _text_not_checked, "UnicodeDecodeError"),
}
"""By name: the target that finds it, what makes it, and what the fuzzer says then."""
