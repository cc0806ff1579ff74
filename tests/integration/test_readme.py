"""The commands of the README and of docs/start.md, run as they stand, in a clean directory beside a new demo store."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.process import Child, free_port, wait_for

ROOT = Path(__file__).parents[2]
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
"""A stop waits up to 20 s for terminals that are in the middle of a payment, and then for the workers one by one."""

pytestmark = [
    pytest.mark.timeout(360),
    pytest.mark.blocking_allowed("it runs a shell and waits for it; there is no loop here"),
]


UNWILLING = re.compile("worker.stops_late|worker.does_not_stop|payment.not_settled_by_stop")
LOG_LINES = 60
PAPER = re.compile(r"http://localhost:8081/")
STATUS = re.compile(r"^(.*hubctl .*\bstatus)$", re.MULTILINE)


class Demo:
    """A demo store in a directory where the README's reader would stand: with .venv, and .demo as it makes it."""

    def __init__(self, place: Path, http_port: int, paper_port: int) -> None:
        self.place = place
        self.http_port = http_port
        self.paper_port = paper_port

    def run(self, commands: str) -> str:
        """Run a block of the README, line by line as a reader does; the first that fails, fails."""
        script = "set -eu\n" + self.here(commands)
        # `hubctl status` answers 1 while something is wrong, as the text beside the block says; 2 and 3 still fail.
        script = STATUS.sub(r"\1 || [ $? -eq 1 ]", script)
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def here(self, text: str) -> str:
        """The text with this demo's ports in the place of those that a reader's demo has."""
        text = text.replace("localhost:8080", f"localhost:{self.http_port}")
        return text.replace("localhost:8081", f"localhost:{self.paper_port}")

    def paper(self, document: str) -> str:
        """What the printer has printed, at the address that the document gives."""
        (address,) = set(PAPER.findall((ROOT / document).read_text("utf-8")))
        with urllib.request.urlopen(self.here(address), timeout=COMMAND_TIMEOUT_S) as answer:
            return str(answer.read().decode("utf-8"))

    def until_proven(self) -> None:
        """Return when the newest outage has its final statement: the text says to wait for it."""

        def final() -> bool:
            said = json.loads(self.run(".venv/bin/hubctl --config .demo/hubd.toml outages --json"))
            return bool(said["outages"][0]["statement"] == "final")

        wait_for(final, 60, "the final statement")

    def waiting(self) -> int:
        """How many entries the cloud has not confirmed."""
        said = json.loads(self.run(".venv/bin/hubctl --config .demo/hubd.toml sync --json"))
        count: int = said["sync"]["waiting"]
        return count


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    ports = {"https": free_port(), "http": free_port(), "paper": free_port()}
    words = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
    command = [tmp_path / ".venv/bin/hubd", "demo", *words]
    log = tmp_path / ".demo/hubd.log"
    with Child([str(word) for word in command], cwd=tmp_path, stop_timeout_s=STOP_TIMEOUT_S) as child:
        child.wait_for_text("Stop ", START_TIMEOUT_S)
        yield Demo(tmp_path, ports["http"], ports["paper"])
        stopped = child.stop()
    last = "\n".join(log.read_text("utf-8").splitlines()[-LOG_LINES:])
    assert stopped == 0, last
    assert not UNWILLING.search(last), last


def test_the_log_lines_of_an_unwilling_stop_are_known() -> None:
    """They are looked for in the log after each stop; here that they are still written in these words."""
    shipped = "".join((ROOT / file).read_text("utf-8") for file in ("hubd/supervisor.py", "hubd/services/payments.py"))
    assert set(UNWILLING.findall(shipped)) == set(UNWILLING.pattern.split("|"))


def blocks(document: str) -> list[str]:
    """The blocks of shell commands of a document, in order."""
    return COMMANDS.findall((ROOT / document).read_text("utf-8"))


def last_json(output: str) -> Any:
    return json.loads(output.strip().splitlines()[-1])


def test_the_readmes_commands_do_what_it_says(demo: Demo) -> None:
    pay, counter, outage, prove = blocks("README.md")

    first = last_json(demo.run(pay))
    again = last_json(demo.run(pay))
    assert first["state"] in {"in_progress", "approved"}
    assert again["accepted"] == first["accepted"]

    wait_for(lambda: "12.50" in demo.paper("README.md"), 30, "the receipt on the printer's paper")
    printed = demo.run(counter)
    assert "The till has heard 4006381333931 (ean13)." in printed
    assert "The till reads 350 g." in printed
    assert "Receipt printer is unplugged." in printed

    printed = demo.run(outage)
    counts = [int(count) for count in re.findall(r"^waiting\s+(\d+)$", printed, re.MULTILINE)]
    assert len(counts) == 2, printed
    assert counts[0] > 0, printed
    wait_for(lambda: demo.waiting() == 0, 30, "the cloud's word about every entry")
    demo.until_proven()
    assert re.search(r"^The statement over \d payments is right\. Compared: .*totals", demo.run(prove), re.MULTILINE)


def test_the_first_ten_minutes_work_as_written(demo: Demo) -> None:
    for commands in blocks("docs/start.md"):
        if "outages verify" in commands:
            demo.until_proven()
        printed = demo.run(commands)
        if "paper-in" in commands:
            assert "The till reads 350 g." in printed
            wait_for(lambda: "3.50" in demo.paper("docs/start.md"), 30, "the receipt that waited for paper")
        if "outage network" in commands:
            assert re.search(r"^first that fails +\w+, ", printed, re.MULTILINE), printed
            assert "The Internet is down" in printed, "and what to do about it"
    wait_for(lambda: demo.waiting() == 0, 30, "the cloud's word about every entry")


def test_make_run_starts_the_demo_that_the_commands_are_for() -> None:
    """`make run` itself is this command behind an installation, which each run of `make test` has done."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    assert shown.strip().splitlines()[-1].split() == ["exec", ".venv/bin/hubd", "demo"]
