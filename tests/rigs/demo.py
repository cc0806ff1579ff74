"""`hubd demo` in a process of its own and `hubctl` in others, as people run them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.rigs.process import Child, wait_for
from tests.tidy.tree import ROOT

START_LIMIT_S = 60.0
PAGE_TIMEOUT_S = 20


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUBD_")}
    return kept | {"PYTHONPATH": str(ROOT)}


class Demo:
    """A demo store in a directory of its own, and hubctl on it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.state = place / ".demo"
        self._opened = 0
        argv = [sys.executable, "-m", "hubd", "demo", "--https-port", "0", "--http-port", "0", "--paper-port", "0"]
        self.child = Child(argv, cwd=place, env={"PYTHONPATH": str(ROOT)}, stop_signal=signal.SIGINT, stop_timeout_s=60)

    def start(self) -> None:
        self._opened += 1
        self.child.start()
        wait_for(
            lambda: not self.child.running or self.child.stdout().count("The demo store is open.") >= self._opened,
            START_LIMIT_S,
            "the demo store to open",
        )
        assert self.child.running, self.child.tail()
        wait_for(lambda: "Stop  " in self.child.stdout(), START_LIMIT_S, "the last line of its welcome")

    def hubctl(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from hubd.cli import main; main()", *args],
            cwd=self.place,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def play(self, *args: str) -> dict[str, Any]:
        done = self.hubctl("demo", *args, "--json")
        assert done.stdout, done.stderr
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    def ask(self, *args: str) -> dict[str, Any]:
        done = self.hubctl("--config", str(self.state / "hubd.toml"), *args, "--json")
        assert done.stdout, done.stderr
        value: dict[str, Any] = json.loads(done.stdout)
        assert value["schema"] == 1
        return value

    def sell(self, amount: str, *more: str) -> str:
        payment = self.play("sale", amount, *more)["payment"]
        return str(payment["state"])

    def problems(self) -> list[str]:
        return [item["code"] for item in self.ask("status")["problems"]]

    def log_tail(self) -> str:
        return "\n".join((self.state / "hubd.log").read_text().splitlines()[-40:])

    def till(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.state / "till.json").read_text())
        return value

    def paper_url(self) -> str:
        """Where the printer's paper is shown, as its newest welcome says."""
        found: list[str] = re.findall(r"^  Paper +(http://localhost:\d+/)", self.child.stdout(), re.MULTILINE)
        return found[-1]

    def paper(self) -> str:
        """What stands there now, newest first, without the page around it."""
        with urllib.request.urlopen(f"{self.paper_url()}paper", timeout=PAGE_TIMEOUT_S) as answer:
            return str(answer.read().decode("utf-8"))

    def simulators(self) -> list[int]:
        """The processes that it has started."""
        found = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text("ascii")
        return [int(number) for number in found.split()]
