"""docs/develop/add-a-driver.md, followed literally: a new package, its tests, a break seen, and a weight in a shop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from drivers.kit.scaffold import scaffold
from hubd.errors import InvalidValueError
from tests.rigs.process import free_port, wait_for

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/develop/add-a-driver.md"
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.blocking_allowed("it runs a shell and waits for it; there is no loop here"),
]


class Reader:
    """One who reads the page and types its blocks, in a directory with an environment of his own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        environment = place / ".venv"
        venv.create(environment, symlinks=True)
        packages = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        # All that the project's environment has, without putting anything into that.
        line = "".join(f"import site; site.addsitedir({one!r})\n" for one in (str(ROOT), sysconfig.get_path("purelib")))
        (packages / "project.pth").write_text(line, "utf-8")
        for name, module in (("hubctl", "hubd.cli"), ("hubd", "hubd.main")):
            script = environment / "bin" / name
            script.write_text(f"#!{environment}/bin/python\nfrom {module} import main\nmain()\n", "utf-8")
            script.chmod(0o755)
        ports = {"127.0.0.1:4001": f"127.0.0.1:{free_port()}"}
        ports["hubd demo"] = f"hubd demo --https-port {free_port()} --http-port {free_port()}"
        self._ports = ports
        self._blocks = iter(COMMANDS.findall(PAGE.read_text("utf-8")))
        self._started: list[subprocess.Popen[bytes]] = []

    def type_next(self) -> str:
        """Run the next block; the first command that fails, fails. What it starts with & goes on."""
        script = next(self._blocks)
        for written, used in self._ports.items():
            script = script.replace(written, used)
        return self.type(script)

    def type(self, script: str) -> str:
        """Run commands, and return what they print."""
        said = self.place / "said"
        with said.open("wb") as out:
            shell = subprocess.Popen(
                ["bash", "-c", f"set -eu\n{script}"],
                cwd=self.place,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
                start_new_session=True,
            )
        self._started.append(shell)
        code = shell.wait(BLOCK_TIMEOUT_S)
        text = said.read_text("utf-8", "replace")
        assert code == 0, f"{script}\n{text}"
        return text

    def close(self) -> None:
        """Stop what was started with &."""
        for shell in self._started:
            try:
                os.killpg(shell.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
            wait_for(partial(_ended, shell.pid), STOP_TIMEOUT_S, "the end of what was started")


def _ended(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.close()


def test_the_page_is_followed_literally(reader: Reader) -> None:
    assert " passed" in reader.type_next()
    listed = reader.type_next()
    assert "acme_scale" in listed
    broken = reader.type_next()
    assert "test_what_is_no_line_of_this_scale" in broken, "the tests see a codec that believes anything"
    reader.type_next()
    hubctl = ".venv/bin/hubctl --config .demo/hubd.toml devices list --json"

    def ready() -> bool:
        try:
            found = json.loads(reader.type(hubctl))["devices"]
        except (AssertionError, ValueError):
            return False
        return any(one["name"] == "acme_scale" and one["state"] == "ready" for one in found)

    wait_for(ready, 90, "the scale in the demo store")
    assert "345" in reader.type_next()


def test_a_driver_that_is_broken_is_listed_with_its_reason_and_stops_nothing(reader: Reader) -> None:
    reader.type(".venv/bin/hubctl devices new broken_scale")
    reader.type(
        ".venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable hubd-driver-broken-scale"
    )
    module = reader.place / "hubd-driver-broken-scale/hubd_broken_scale/driver.py"
    module.write_text(module.read_text("utf-8") + "\nimport nothing_of_this_name\n", "utf-8")
    found = json.loads(reader.type(".venv/bin/hubctl devices drivers --json"))["drivers"]
    reasons = {one["driver"]: one["reason"] for one in found}
    assert reasons["broken_scale"].startswith("load_error: ModuleNotFoundError")
    assert {reason for driver, reason in reasons.items() if driver != "broken_scale"} == {""}


@pytest.mark.parametrize(
    ("name", "code"), [("Acme", "driver.invalid_name"), ("", "driver.invalid_name"), ("zvt", "driver.name_taken")]
)
def test_what_cannot_be_a_new_driver_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, code: str
) -> None:
    with pytest.raises(InvalidValueError) as refused:
        scaffold(name, "", tmp_path)
    assert refused.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_touched(tmp_path: Path) -> None:
    scaffold("acme_scale", "", tmp_path)
    with pytest.raises(InvalidValueError, match="is there already"):
        scaffold("acme_scale", "", tmp_path)
