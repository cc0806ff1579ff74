"""What scripts may rely on: hubctl's JSON has a schema number and these keys; generated pages are up to date."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hubd.cli.app import app
from hubd.cli.config import example_toml, reference_page
from hubd.cli.reference import reference_page as commands_page
from hubd.config import parse_config
from hubd.config_sections import PathsConfig
from tests.tidy.tree import ROOT

EXAMPLE = ROOT / "systemd/hubd.toml.example"
COMMANDS = ROOT / "docs/reference/hubctl.md"
REFERENCE = ROOT / "docs/reference/configuration.md"
PLACES = PathsConfig(Path("/var/lib/hubd"), Path("/run/hubd"))

# Command → exit code and the keys of its JSON, on a machine without a hub.
WITHOUT_HUB = {
    "status": (3, {"schema", "reachable", "healthy", "why", "store", "store_error"}),
    "doctor": (1, {"schema", "healthy", "findings"}),
    "config show": (0, {"schema", "values"}),
    "bugreport": (0, {"schema", "file", "bytes", "files"}),
}


def hubctl(where: Path, *args: str) -> tuple[int, Any]:
    environ = {
        "HOME": str(where),
        "HUBD_CONFIG": str(where / "none.toml"),
        "HUBD_PATHS_DATA": str(where / "data"),
        "HUBD_PATHS_RUNTIME": str(where / "run"),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from hubd.cli import main; main()", *args, "--json"],
        cwd=where,
        env=environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, f"{done.returncode}: {done.stderr}"
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("command", sorted(WITHOUT_HUB))
def test_keys_and_exit_code_without_a_hub(tmp_path: Path, command: str) -> None:
    code, keys = WITHOUT_HUB[command]
    returned, found = hubctl(tmp_path, *command.split())
    assert (returned, found["schema"]) == (code, 1)
    assert set(found) == keys


def test_each_finding_and_each_value_has_these_keys(tmp_path: Path) -> None:
    _, doctor = hubctl(tmp_path, "doctor")
    assert {frozenset(finding) for finding in doctor["findings"]} == {frozenset({"check", "level", "text", "remedy"})}
    _, config = hubctl(tmp_path, "config", "show")
    assert {frozenset(value) for value in config["values"]} == {frozenset({"key", "value", "origin"})}
    assert {"key": "paths.data", "value": str(tmp_path / "data"), "origin": "environment HUBD_PATHS_DATA"} in config[
        "values"
    ]


def test_the_example_is_generated() -> None:
    """`hubctl config example > systemd/hubd.toml.example`."""
    assert EXAMPLE.read_text("utf-8") == example_toml()


def test_the_reference_page_is_generated() -> None:
    """`hubctl config reference > docs/reference/configuration.md`."""
    assert REFERENCE.read_text("utf-8") == reference_page()


def test_the_commands_page_is_generated() -> None:
    """`hubctl reference > docs/reference/hubctl.md`."""
    page = commands_page(app)
    assert COMMANDS.read_text("utf-8") == page
    looks, mends = "status devices payments orders sync outages journal logs doctor", "bugreport backup restore"
    wanted = f"{looks} {mends} config users pair demo"
    assert [name for name in wanted.split() if f"## `hubctl {name}`" not in page] == []


def test_the_example_is_all_defaults_and_stays_valid_with_every_line_taken_in() -> None:
    text = example_toml()
    assert parse_config(text, "example", {}, PLACES) == parse_config("", "empty", {}, PLACES)
    lines = [line[1:] if line.startswith("#") and not line.startswith("# ") else line for line in text.splitlines()]
    taken_in = "\n".join(lines)
    config = parse_config(taken_in, "example", {}, PLACES)
    assert config.api == parse_config("", "empty", {}, PLACES).api
    assert [terminal.address for terminal in config.terminals] == ["tcp://192.168.1.50:20007"]
    assert set(tomllib.loads(taken_in)) == {
        "paths", "api", "cloud", "probes", "devices", "discovery", "backup", "log", "terminals", "spool", "spools",
    }  # fmt: skip
