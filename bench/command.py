"""The command line of every part: how long to measure and where to write the result."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.machine import machine_line
from bench.measure import Report

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "performance.md"


@dataclass(frozen=True, slots=True)
class Options:
    """Some minutes for everything, or as long as the large numbers take."""

    full: bool = False

    def rounds(self, quick: int, full: int) -> int:
        return full if self.full else quick

    def seconds(self, quick: float, full: float) -> float:
        return full if self.full else quick


def parse(arguments: Sequence[str] | None = None, *, parts: Sequence[str] = ()) -> tuple[Options, bool, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="more rounds, a million entries: hours")
    parser.add_argument("--record", action="store_true", help="write the result into docs/reference/performance.md")
    if parts:
        parser.add_argument("part", nargs="*", choices=[*parts, []], help="only these parts")
    asked = parser.parse_args(arguments)
    return Options(asked.full), asked.record, list(getattr(asked, "part", []))


def run(part: Callable[[Options], Report], options: Options, *, record: bool) -> Report:
    """Measure one part, print what it found and, if wanted, write it down with machine, date and command."""
    made = part(options)
    command = f"python -m bench.{made.name}{' --full' if options.full else ''}"
    text = f"{made.markdown()}\n\n`{command}`, {datetime.now(UTC):%Y-%m-%d}, on {machine_line()}."
    print(text, flush=True)
    if record:
        _write(made.name, text)
    return made


def _write(name: str, text: str) -> None:
    page = PAGE.read_text("utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n{text}\n{end}"
    found = re.search(rf"{re.escape(begin)}.*?{re.escape(end)}", page, re.DOTALL)
    page = page.replace(found.group(), section) if found else f"{page.rstrip()}\n\n{section}\n"
    PAGE.write_text(page, "utf-8")


def main(part: Callable[[Options], Report]) -> None:
    options, record, _ = parse()
    run(part, options, record=record)
