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

ROOT = Path(__file__).parent.parent
PAGE, README = ROOT / "docs" / "reference" / "performance.md", ROOT / "README.md"
SUMMARY_BEGIN, SUMMARY_END = "<!-- numbers: python -m bench --record -->\n", "<!-- end numbers -->"


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
    README.write_text(with_summary(README.read_text("utf-8"), page), "utf-8")


def summary(page: str) -> str:
    """Every target of the page with what was measured, and the command and machine of each part."""
    rows, runs = [], []
    for name, section in re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end \1 -->", page, re.DOTALL):
        title = re.findall(r"^## (.+)$", section, re.MULTILINE)[0]
        targets = section.partition("| target | wanted | measured | reached |\n")[2].partition("\n\n")[0]
        rows += [f"| {title}: {row[2:]}" for row in targets.splitlines()[1:]]
        runs += [f"- {title}: {line}" for line in section.splitlines() if line.startswith(f"`python -m bench.{name}")]
    head = "| target | wanted | measured | reached |\n| --- | --- | --- | --- |\n"
    reached = sum(row.endswith("| yes |") for row in rows)
    begin = f"{reached} of {len(rows)} targets were reached in the runs below.\n\n"
    return f"{begin}<details><summary>Every target</summary>\n\n{head}" + "\n".join(
        [*rows, "", *runs, "", "</details>", ""]
    )


def with_summary(readme: str, page: str) -> str:
    """The README with the numbers of the page."""
    before, begun, rest = readme.partition(SUMMARY_BEGIN)
    _, ended, after = rest.partition(SUMMARY_END)
    assert begun, "the README has no place for the numbers"
    assert ended, "the README's place for the numbers does not end"
    return f"{before}{SUMMARY_BEGIN}{summary(page)}{SUMMARY_END}{after}"


def main(part: Callable[[Options], Report]) -> None:
    options, record, _ = parse()
    run(part, options, record=record)
