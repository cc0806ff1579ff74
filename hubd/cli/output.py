"""What hubctl prints: tables for people, versioned JSON for scripts, and why something did not work."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, NoReturn

import typer

from hubd.errors import HubError

SCHEMA = 1
"""Number of the JSON's shape; a breaking change raises it and keeps the old one available."""


class Exit(IntEnum):
    """Exit codes of hubctl."""

    FINE = 0
    UNHEALTHY = 1
    """The answer is no, or something is not well."""
    USAGE = 2
    UNREACHABLE = 3


def print_json(**content: Any) -> None:  # values are whatever JSON can hold
    """One JSON object with its schema number."""
    sys.stdout.write(json.dumps({"schema": SCHEMA, **content}, ensure_ascii=False, indent=2) + "\n")


def print_line(text: str = "") -> None:
    """One line for people, never read as markup."""
    sys.stdout.write(text + "\n")


def print_error(text: str) -> None:
    """One line to standard error."""
    sys.stderr.write(text + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table; `empty` is what is said when there are no rows. Piped output is as wide as it needs to be."""
    found = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not found:
        print_line(empty)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(*(Text(cell) for cell in row))
    width = (
        None
        if sys.stdout.isatty()
        else 32 + sum(max(len(str(cell)) for cell in cells) + 3 for cells in zip(columns, *found, strict=True))
    )
    Console(highlight=False, width=width).print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line, values in one column."""
    found = [(name, str(value)) for name, value in facts if value is not None and value != ""]
    width = max((len(name) for name, _ in found), default=0)
    for name, value in found:
        print_line(f"{name.ljust(width)}  {value}")


def fail(error: HubError, code: Exit = Exit.UNHEALTHY) -> NoReturn:
    """Say what happened and what to do, and leave."""
    print_error(f"{error.code}: {error.detail}")
    if error.remedy:
        print_error(error.remedy)
    raise typer.Exit(code)


def time_text(at_us: int | None) -> str:
    """A moment for people, in this machine's zone; a dash where there is none."""
    if at_us is None:
        return "—"
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def moment_text(moment: Any) -> str:  # as the API gave it
    """An RFC 3339 moment for people, in this machine's zone; empty where there is none."""
    try:
        return datetime.fromisoformat(str(moment)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return "" if moment is None else str(moment)


def money_text(money: Any) -> str:  # as the API gave it
    """`{"amount": 1250, "currency": "EUR"}` as 12.50 EUR; anything else as it is."""
    from hubd.model.money import Money

    if isinstance(money, dict) and isinstance(money.get("amount"), int) and isinstance(money.get("currency"), str):
        return Money(money["amount"], money["currency"]).plain()
    return "" if money is None else str(money)


def bytes_text(count: int) -> str:
    """A size for people."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit has no limit")
