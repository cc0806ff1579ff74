"""What the commands share: the configuration they act on, the hub they ask, the store they read without it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubd.cli.client import Client
from hubd.config import Config, load_config

if TYPE_CHECKING:
    from hubd.store.tx import Connection

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON with a schema number, for scripts.")]


@dataclass(frozen=True, slots=True)
class Target:
    """Which hub the command is about."""

    config_file: Path | None

    def config(self) -> Config:
        """Its configuration. Raises ConfigError."""
        return load_config(self.config_file)

    def client(self) -> Client:
        """Asks it. Raises ConfigError."""
        return Client.of(self.config())


def target_of(context: typer.Context) -> Target:
    """The hub that the options before the command named."""
    target = context.find_root().obj
    assert isinstance(target, Target), "set by the callback of the program"
    return target


def client_of(context: typer.Context) -> Client:
    """Asks the hub that the options before the command named."""
    return target_of(context).client()


def items_of(answer: Any) -> list[dict[str, Any]]:
    """The items of a list, whichever way the route wraps them."""
    found = answer.get("items", []) if isinstance(answer, dict) else answer
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def all_items(client: Client, path: str, limit: int, **query: Any) -> list[dict[str, Any]]:
    """Up to `limit` items of a list in pages."""
    found: list[dict[str, Any]] = []
    cursor = None
    while len(found) < limit:
        page = client.get(path, limit=min(200, limit - len(found)), cursor=cursor, **query)
        found += items_of(page)
        cursor = page.get("next") if isinstance(page, dict) else None
        if not cursor:
            break
    return found[:limit]


def become_owner(path: Path) -> None:
    """As root, go on as the owner of the store: what SQLite creates beside it must be the service user's."""
    from hubd.store.offline import owner_of

    if os.geteuid() != 0:
        return
    user, group = owner_of(path)
    if user == 0:
        return
    os.setgroups([group])
    os.setgid(group)
    os.setuid(user)


@contextmanager
def dead_store(config: Config) -> Iterator[Connection]:
    """A read-only connection to the store, with or without the daemon. Raises StoreError."""
    from hubd.errors import StoreError
    from hubd.store.offline import open_read_only

    path = config.paths.database
    try:
        if path.parent.exists():
            become_owner(path)
        with open_read_only(path) as connection:
            yield connection
    except PermissionError as exc:
        raise StoreError(
            "store.not_allowed",
            f"You may not read {exc.filename or path}.",
            remedy="Run it as the service user: `sudo -u hubd hubctl …`.",
        ) from exc
