"""The README says what is there: its table of devices is fresh, its links lead somewhere, its claims are small."""

from __future__ import annotations

import re
from pathlib import Path

from bench.command import with_summary
from tests.tidy.devices import with_table
from tests.tidy.tree import ROOT, repository_files, text

CLAIMS_NOBODY_MEASURED = re.compile(r"\b(certified|exactly[- ]once|zero (data )?loss|guaranteed delivery|100 ?%)", re.I)
DOCUMENTS = [path for path in repository_files() if path.suffix == ".md"]


def broken_links(document: Path, content: str) -> list[str]:
    """Relative links of a document that lead to no file of the repository."""
    found = []
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", content, flags=re.DOTALL)):
        if "://" in target or target.startswith("mailto:"):
            continue
        if not (ROOT / document.parent / target).exists():
            found.append(f"{document}: {target}")
    return found


def test_the_table_of_devices_follows_from_the_manifests() -> None:
    """After a change of a manifest: `python -m tests.tidy.devices`."""
    readme = text(Path("README.md"))
    assert readme == with_table(readme)


def test_the_numbers_are_those_of_the_performance_page() -> None:
    """After a run: `python -m bench --record` writes both."""
    readme = text(Path("README.md"))
    assert readme == with_summary(readme, text(Path("docs/reference/performance.md")))


def test_every_link_between_documents_leads_somewhere() -> None:
    assert [broken for path in DOCUMENTS for broken in broken_links(path, text(path))] == []


def test_no_claim_that_nobody_measured() -> None:
    readme = text(Path("README.md"))
    allowed = ("no certified device yet",)
    for phrase in allowed:
        readme = readme.replace(phrase, "")
    assert CLAIMS_NOBODY_MEASURED.findall(readme) == []


# -- each rule finds what it is shown ----------------------------------------------------------------------------------


def test_a_broken_link_is_found() -> None:
    shown = "[a](README.md) [b](https://example.org/x) [c](#here) [d](docs/nowhere.md#part) ```[e](no.md)```"
    assert broken_links(Path("CONTRIBUTING.md"), shown) == ["CONTRIBUTING.md: docs/nowhere.md"]


def test_a_large_claim_is_found() -> None:
    assert CLAIMS_NOBODY_MEASURED.search("delivers exactly once")
    assert CLAIMS_NOBODY_MEASURED.search("PCI certified")
