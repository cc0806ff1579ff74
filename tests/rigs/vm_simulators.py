"""Devices that are played in the virtual machine: a simulator on the device's side of a gadget, and its plug."""

from __future__ import annotations

import json
from typing import Any

from tests.rigs.process import RigError, wait_for
from tests.rigs.vm import VirtualMachine

CONTROLS = "/run/rig"
START_TIMEOUT_S = 60.0
POLL_S = 0.2
"""Looking costs the slow machine a process each time."""


class Played:
    """A simulator's program that talks on a gadget's node; it starts when the gadget is first plugged in."""

    def __init__(self, machine: VirtualMachine, gadget: str, module: str, port: int, *options: str) -> None:
        self._machine = machine
        self._gadget = gadget
        self._program = [module, *options]
        self._port = port
        self._control = f"{CONTROLS}/{gadget}"
        self._unit = f"played-{gadget}"
        self._runs = False

    def plug(self) -> None:
        """Plug it in, with the device at work behind it."""
        (node,) = self._machine.plug(self._gadget, self._port)
        if self._runs:
            self.tell(cmd="replug")
        else:
            self._start(node)

    def _start(self, node: str) -> None:
        module, *options = self._program
        program = f"/opt/hubd/bin/python -m {module} --device {node} --control {self._control} {' '.join(options)}"
        self._machine.sh(f"mkdir -p {CONTROLS} && systemd-run --quiet --collect --unit={self._unit} {program}")
        self._runs = True
        try:
            wait_for(self._listens, START_TIMEOUT_S, f"the simulator {module}", interval_s=POLL_S)
        except RigError as error:
            raise RigError(f"{error}\n{self._machine.sh(f'journalctl -u {self._unit} --no-pager').stdout}") from None

    def _listens(self) -> bool:
        return self._machine.sh(f"test -S {self._control}", check=False).returncode == 0

    def tell(self, **request: object) -> dict[str, Any]:
        """One command of its control socket."""
        heard = self._machine.ask(self._control, json.dumps(request) + "\n", until="\n")
        answer: dict[str, Any] = json.loads(heard)
        if "error" in answer:
            raise RigError(f"{request}: {answer['error']}")
        return answer

    def hold(self, way: str, count: int) -> None:
        """Let its line stop after so many more bytes that it has `heard` or `said`."""
        self.tell(cmd="hold", way=way, bytes=count)

    def wait_until_held(self) -> None:
        """Return once the line has stopped there: a frame is half on it."""
        self.tell(cmd="held")

    def pull(self) -> None:
        """Pull the plug, in the middle of whatever is on the line."""
        self._machine.pull(self._gadget)
        self.tell(cmd="unplug")

    def stop(self) -> None:
        """End the program; its node is free."""
        if self._runs:
            self._machine.sh(f"systemctl stop {self._unit}", check=False)
            self._machine.sh(f"rm -f {self._control}")
            self._runs = False
