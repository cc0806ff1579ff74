"""The route table: every address with its method, its permission, who may prove himself how, and its limits.

Nothing is reachable that is not in the table, whatever the framework has mounted; the gate (gate.py) reads it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from hubd.model.permissions import Permission

if TYPE_CHECKING:
    from hubd.errors import HubError
    from local_api.call import Call, Reply
    from local_api.gate import Scope

BODY_BYTES_MAX = 64 * 1024
BODY_SECONDS_MAX = 10
CALLS_AT_ONCE_MAX = 64
"""Of one device or person, without streams: a till that repeats everything it holds after a break stays below it."""
STREAMS_AT_ONCE_MAX = 4

Handler = Callable[["Call"], Awaitable["Reply"]]
Refusal = Callable[["Scope", "HubError"], tuple[int, bytes, dict[str, str]]]
"""Status, body and headers of an answer to an error, for people instead of programs."""


class Auth(StrEnum):
    """How a caller may prove who he is."""

    DEVICE = "device"
    """A paired device: its token, or a browser's signature."""
    COOKIE = "cookie"
    """The status page's own session."""
    LOCAL = "local"
    """The machine's administrator, over the unix socket."""
    TICKET = "ticket"
    """A one-time ticket for streams that can send no headers."""


EVERYBODY_KNOWN = frozenset({Auth.DEVICE, Auth.COOKIE, Auth.LOCAL})
_PARAMETER = re.compile(r"\{([a-z_]+)\}")


class RouteSpec(Struct, frozen=True):
    """One row of the table."""

    method: str
    """GET, PUT, POST, DELETE, or WS for a WebSocket."""
    path: str
    permission: Permission | None
    """None: open to everybody who reaches the hub."""
    handler: Handler | None = None
    """Called with the decoded request; None for routes that the page serves itself."""
    summary: str = ""
    auth: frozenset[Auth] = EVERYBODY_KNOWN
    body: type[Any] | None = None
    body_optional: bool = False
    """Whether the body may be left out; it is then as if all its fields were."""
    query: type[Any] | None = None
    reply: Any = None
    media: str = ""
    """The media type of an answer that is no JSON; `reply` has none of it then."""
    also: tuple[str, ...] = ()
    """Media types that the same answer may have instead, for callers that prefer them by `Accept`."""
    created: bool = False
    """Whether 201 is among the answers."""
    waits: bool = False
    """Whether 202 is among the answers: somebody has yet to act."""
    any_origin: bool = False
    same_host: bool = False
    """Whether a page of the same host name, such as the one on the HTTP port, may ask and read the answer."""
    stream: bool = False
    straight: bool = False
    """Whether the gate calls the handler's endpoint itself: for what tills ask most, a second search costs too much."""
    body_bytes_max: int = BODY_BYTES_MAX
    tag: str = ""
    refusal: Refusal | None = None
    """How the gate's refusals are told on a row for people; None: as a problem document."""


class _Node(Struct):
    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    rest: _Node | None = None
    by_method: dict[str, RouteSpec] = field(default_factory=dict)
    names: tuple[str, ...] = ()


class RouteTable:
    """Finds the row of a request. Two rows for one method and path are a mistake of ours and stop the start."""

    def __init__(self, rows: Sequence[RouteSpec]) -> None:
        self.rows = tuple(rows)
        self._root = _Node()
        for row in rows:
            self._add(row)

    def _add(self, row: RouteSpec) -> None:
        node, names = self._root, []
        for part in row.path.strip("/").split("/"):
            if part == "{path:path}":
                names.append("path")
                node.rest = node.rest or _Node()
                node = node.rest
            elif found := _PARAMETER.fullmatch(part):
                names.append(found[1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(part, _Node())
        assert row.method not in node.by_method, f"{row.method} {row.path} stands in the table twice"
        node.by_method[row.method], node.names = row, tuple(names)

    def find(self, path: str) -> tuple[Mapping[str, RouteSpec], dict[str, str]]:
        """The rows of a path by method, and its parameters; nothing for an address that does not exist."""
        node, values = self._root, []
        parts = path.strip("/").split("/")
        for place, part in enumerate(parts):
            if part in node.literals:
                node = node.literals[part]
            elif node.parameter is not None and part:
                values.append(part)
                node = node.parameter
            elif node.rest is not None:
                values.append("/".join(parts[place:]))
                node = node.rest
                break
            else:
                return {}, {}
        return node.by_method, dict(zip(node.names, values, strict=True)) if node.by_method else {}
