"""docs/develop/first-payment.md, followed literally: its commands, in its order, in a network of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rigs.process import require_tool

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "develop" / "first-payment.md"
FENCE = re.compile(r"^```(sh|python)(?: ([\w.-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.blocking_allowed("it runs a shell, as the reader does; no loop is involved"),
]


def blocks() -> list[tuple[str, str, str]]:
    """Language, mark and text of each fenced block."""
    return FENCE.findall(PAGE.read_text("utf-8"))


def script(found: list[tuple[str, str, str]]) -> str:
    """One shell that does what the page says: marked blocks run beside it, or are asked again until they show it."""
    lines = [
        "set -euo pipefail",
        "ip link set lo up",
        "pause() { read -rt 0.1 <> <(:) || :; }",
        'wait_for() { for _ in $(seq 600); do if eval "$1" > /dev/null 2>&1; then return 0; fi; pause; done; false; }',
        "trap 'kill $STORE ${PAGES:-} 2>/dev/null || :; wait $STORE 2>/dev/null || :' EXIT",
    ]
    for language, mark, text in found:
        if language == "python":
            lines.append(f"cat > {mark} <<'END_OF_FILE'\n{text}END_OF_FILE")
        elif mark == "terminal-1":
            # Everything is installed where the tests run; what `make run` does after that is its last command.
            lines.append(f"({text.strip()} -o .venv/.run) > store.log 2>&1 & STORE=$!")
            lines.append("wait_for 'grep -q \"Ctrl-C\" store.log' || { cat store.log; exit 9; }")
        elif mark == "terminal-3":
            lines.append(f"{text.strip()} > pages.log 2>&1 & PAGES=$!")
            lines.append("wait_for 'curl -sSf http://127.0.0.1:8099/browser-till.html | grep -q subtle'")
        elif mark == "until-waiting":
            lines.append(f"wait_for '{text.strip()} | grep -q waiting' || {{ {text.strip()}; cat till.txt; exit 8; }}")
        else:
            lines.append(text)
    return "\n".join(lines) + "\n"


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """A clone as the reader has it: the repository's own files, and a place for what the page writes."""
    for name in (".venv", "docs", "Makefile", "hubd", "local_api", "drivers", "sync", "scripts", "requirements"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "pyproject.toml").symlink_to(ROOT / "pyproject.toml")
    yield folder


def test_the_page_is_followed_word_for_word(tmp_path: Path) -> None:
    require_tool("unshare", "util-linux")
    require_tool("curl", "curl")
    with workplace(tmp_path) as place:
        run = subprocess.run(
            ["unshare", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", script(blocks())],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        store = (place / "store.log").read_text("utf-8") if (place / "store.log").exists() else ""
        assert run.returncode == 0, f"{run.stdout[-3000:]}\n{run.stderr[-3000:]}\n{store[-2000:]}"
        receipt = json.loads((place / "receipt.json").read_text("utf-8"))
        assert receipt["payment"]["total"] == {"amount": 2000, "currency": "EUR"}
        assert len(receipt["fiscal"]["hash"]) == 64
        assert "Receipt" in (place / "till.txt").read_text("utf-8")


def test_every_command_of_the_page_is_in_a_block_that_the_test_knows() -> None:
    marks = {(language, mark) for language, mark, _ in blocks()}
    assert marks <= {
        ("sh", ""),
        ("sh", "terminal-1"),
        ("sh", "terminal-3"),
        ("sh", "until-waiting"),
        ("python", "till.py"),
    }
    assert PAGE.read_text("utf-8").count("\n```") == 2 * len(blocks()), "a block that the test does not see"
