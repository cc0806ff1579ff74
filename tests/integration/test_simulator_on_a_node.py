"""A simulator on a device node, as on a gadget's own side: it talks there, and its line stops where it is told to."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.process import Child, wait_for

TIMEOUT_S = 30.0
ROOT = Path(__file__).parents[2]
ASK = b"W"
ANSWER = b"\x0200.345\r"


class Node:
    """A pseudo-terminal that stands for the gadget's node; this end is the hub's."""

    def __init__(self, folder: Path) -> None:
        self._hub, self._device = os.openpty()
        tty.setraw(self._device)
        self._control = folder / "control"
        where = ["--device", os.ttyname(self._device), "--control", str(self._control)]
        scale = ["-m", "drivers.sim.scale", "--protocol", "toledo8217", "--grams", "345"]
        self.child = Child([sys.executable, *scale, *where], cwd=ROOT)

    def start(self) -> None:
        """Return once it takes commands."""
        self.child.start()
        self.child.wait_for_text('"address"', TIMEOUT_S)
        wait_for(self._control.exists, TIMEOUT_S, "the control socket")

    def tell(self, **request: object) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(TIMEOUT_S)
            line.connect(str(self._control))
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile() as answers:
                answer: dict[str, Any] = json.loads(answers.readline())
        return answer

    def say(self, data: bytes) -> None:
        os.write(self._hub, data)

    def hear(self, count: int) -> bytes:
        heard = b""
        while len(heard) < count:
            assert select.select([self._hub], [], [], TIMEOUT_S)[0], heard
            heard += os.read(self._hub, count - len(heard))
        return heard

    @property
    def silent(self) -> bool:
        """Whether nothing more is on the line."""
        return not select.select([self._hub], [], [], 0)[0]

    def close(self) -> None:
        self.child.close()
        os.close(self._hub)
        os.close(self._device)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    made.start()
    yield made
    made.close()


def test_an_answer_stops_at_its_byte_and_its_rest_is_never_said(node: Node) -> None:
    node.say(ASK)
    assert node.hear(len(ANSWER)) == ANSWER
    assert node.tell(cmd="hold", way="said", bytes=3) == {"ok": True}
    node.say(ASK)
    assert node.tell(cmd="held") == {"ok": True}
    assert node.hear(3) == ANSWER[:3]
    assert node.tell(cmd="unplug") == {"ok": True}
    assert node.silent
    assert node.tell(cmd="replug") == {"ok": True}
    node.say(ASK)
    assert node.hear(len(ANSWER)) == ANSWER, "it is whole again, and begins anew"


def test_a_question_is_heard_up_to_its_byte(node: Node) -> None:
    assert node.tell(cmd="hold", way="heard", bytes=1) == {"ok": True}
    node.say(ASK + ASK)
    assert node.tell(cmd="held") == {"ok": True}
    assert node.hear(len(ANSWER)) == ANSWER
    node.tell(cmd="scale")  # its answer comes from the loop that would have read on
    assert node.silent


def test_what_is_no_command_of_the_line_is_the_devices_own(node: Node) -> None:
    assert node.tell(cmd="scale")["grams"] == 345
    assert "error" in node.tell(cmd="hold", way="sideways", bytes=1)
