"""Pure upcasters: lead an older body to the newest version, step by step (E12). A released version never changes."""

from __future__ import annotations

from collections.abc import Callable

from hubd.model.entry import Json

Body = dict[str, Json]

UPCASTERS: dict[tuple[str, int], Callable[[Body], Body]] = {}
"""(kind, version) -> function that returns the body of version + 1."""


def upcast(kind: str, body_version: int, body: Body) -> Body:
    """Return the body as its newest version has it; bodies of the newest version come back unchanged."""
    step = UPCASTERS.get((kind, body_version))
    while step is not None:
        body, body_version = step(body), body_version + 1
        step = UPCASTERS.get((kind, body_version))
    return body
