"""The hub as a service of the virtual machine, installed as systemd/README.md says, and the devices that it meets."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.rigs.process import RigError, wait_for
from tests.rigs.staged import Staged, add_commands, add_compiled_packages, add_service_files, set_up
from tests.rigs.vm import VirtualMachine
from tests.rigs.vm_simulators import CONTROLS, Played

SOCKET = "/run/hubd/hubd.sock"
PIN = "482915"
# Nothing is reached from here; the rest is as shipped.
CONFIG = """
[cloud]
enabled = false
[probes]
gateway = "tcp://127.0.0.1:1"
dns_server = "127.0.0.1:1"
internet = ["tcp://127.0.0.1:1"]
[discovery]
mdns = false
"""
ASK_BESIDE = """
import socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.sendall(sys.argv[2].encode())
with open(sys.argv[3], "wb", 0) as file:
    file.write(b"asked\\n")
    while part := line.recv(65536):
        file.write(part)
    file.write(b"\\nended")
"""
SITE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"
START_TIMEOUT_S = 240.0
NEWS_TIMEOUT_S = 90.0
LOOK_S = 0.2


def install(machine: VirtualMachine) -> None:
    """Put this working tree into the machine and start the service; returns when it is ready."""
    staged = Staged()
    add_compiled_packages(staged, machine.sh(f'/opt/hubd/bin/python -c "{SITE_PACKAGES}"').stdout.strip())
    add_commands(staged, "/opt/hubd")
    add_service_files(staged)
    staged.add_file("/etc/hubd/hubd.toml", CONFIG, 0o640)
    machine.sh(f"date -s @{time.time():.3f}")  # noqa: TID251 - the snapshot's clock is old
    machine.unpack(staged.archive())
    set_up(machine)
    machine.sh("udevadm control --reload")
    done = machine.sh("systemctl start hubd", check=False, timeout_s=START_TIMEOUT_S)
    if done.returncode != 0:
        raise RigError(machine.sh("journalctl -u hubd --no-pager", check=False).stdout[-4000:])


@dataclass(frozen=True)
class Took:
    """How long something took by the clock on the wall, and for how much of it the host let the machine wait.

    Other work on the host is none of the product. Only the wait of that thread of the machine counts that waited
    longest: where one waited after the other, the rest is left in.
    """

    elapsed_s: float
    withheld_s: float

    @property
    def seconds(self) -> float:
        """What it takes when nothing else runs on the host."""
        return self.elapsed_s - self.withheld_s


class MachineHub:
    """The running hub, as its operator's socket shows it."""

    def __init__(self, machine: VirtualMachine) -> None:
        self.machine = machine
        self._cookie = ""
        self._ids = itertools.count(1)
        self._gadgets: list[str] = []
        self._adapters: dict[str, socket.socket] = {}
        self._played: list[Played] = []

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, cookie: str = "", match: str = ""
    ) -> tuple[str, str]:
        """One request on the operators' socket, head and text of the answer; the page and the API are both there."""
        sent = "" if body is None else json.dumps(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Language: en\r\n"
        head += f"Cookie: {cookie}\r\n" if cookie else ""
        head += f"If-Match: {match}\r\n" if match else ""
        head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        answer = self.machine.ask(SOCKET, head + sent, timeout_s=NEWS_TIMEOUT_S)
        top, _, text = answer.partition("\r\n\r\n")
        if not top.startswith("HTTP/1.1 2"):
            raise RigError(f"{method} {path} gave {top} {text}")
        return top, text

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the API answers; a refusal is an error of the rig."""
        text = self.request(method, path, body)[1]
        return json.loads(text) if text else None

    def ask_beside(self, path: str) -> str:
        """A GET request that is under way while other things are done; returns the file in which its answer grows."""
        file = f"{CONTROLS}/answer-{self.new_id()}"
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        program = shlex.join(["/usr/bin/python3", "-c", ASK_BESIDE, SOCKET, head, file])
        self.machine.sh(f"mkdir -p {CONTROLS} && : > {file} && systemd-run --quiet --collect {program}")
        wait_for(lambda: self.answered(file), NEWS_TIMEOUT_S, f"the beginning of {file}", interval_s=LOOK_S)
        return file

    def answered(self, file: str) -> str:
        """What has come so far of an answer to `ask_beside`; its first line says when the request was sent."""
        return self.machine.sh(f"cat {file}").stdout

    def open_shop(self) -> None:
        """A place, its owner, and the owner's session in a browser."""
        place = {"name": "Shop", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        self.api("PUT", f"/v1/locations/{self.new_id()}", place)
        owner = self.new_id()
        person = {"name": "Anna", "pin": PIN, "roles": [{"role": "owner"}]}
        self.api("PUT", f"/v1/staff/{owner}", person)
        top, _ = self.request("POST", "/v1/sessions", {"staff": owner, "pin": PIN})
        told = re.search(r"set-cookie: ([^;]+)", top, re.IGNORECASE)
        assert told is not None, top
        self._cookie = told[1]
        self.page()  # for the first time, which reads all its templates

    def take_cards_offline(self) -> None:
        """The shop takes cards although it has no internet, which this machine never has."""
        path = "/v1/policies/terminal"
        top, text = self.request("GET", path)
        told = re.search(r"etag: (\S+)", top, re.IGNORECASE)
        assert told is not None, top
        self.request("PUT", path, {"value": json.loads(text)["value"] | {"enabled": True}}, match=told[1])

    def page(self) -> str:
        """The page of devices, as HTML."""
        return self.request("GET", "/devices", cookie=self._cookie)[1]

    def endpoints(self) -> list[dict[str, Any]]:
        """What is seen now."""
        found: list[dict[str, Any]] = self.api("GET", "/v1/endpoints")["items"]
        return found

    def endpoint(self, text: str) -> dict[str, Any] | None:
        """The one endpoint whose identity holds this text, if it is seen."""
        found = [one for one in self.endpoints() if text in one["identity"]]
        assert len(found) < 2, found
        return found[0] if found else None

    def time_until(self, deed: Callable[[], object], condition: Callable[[str], bool], what: str) -> Took:
        """Do something and be the browser that shows the page of devices: how long until the page shows what it must.

        A browser waits at `/news` and reads the page again; nothing else is asked of the hub meanwhile.
        """
        shown = self.page()
        assert not condition(shown), f"the page showed {what} before"
        waited = self.machine.waits()
        begin = time.monotonic()  # noqa: TID251 - a promise in real time
        deed()

        def look() -> bool:
            nonlocal shown
            after = re.search(r'data-news-after="([\d.]+)"', shown)
            assert after is not None, shown[:500]
            self.request("GET", f"/news?after={after[1]}", cookie=self._cookie)
            shown = self.page()
            return condition(shown)

        wait_for(look, NEWS_TIMEOUT_S, f"a page with {what}")
        elapsed_s = time.monotonic() - begin  # noqa: TID251 - see above
        withheld_s = max(wait - waited.get(thread, 0.0) for thread, wait in self.machine.waits().items())
        return Took(elapsed_s, withheld_s)

    def new_id(self) -> str:
        """A fresh UUIDv7, as a till makes it."""
        return f"01a30000-0000-7000-8000-{next(self._ids):012x}"

    def wait_for_endpoint(self, text: str, *, with_address: bool = False) -> dict[str, Any]:
        """Return once an endpoint whose identity holds this text is seen; `with_address`: with its node."""

        def seen() -> dict[str, Any] | None:
            found = self.endpoint(text)
            return found if found and (found["address"] or not with_address) else None

        return wait_for(seen, NEWS_TIMEOUT_S, f"an endpoint {text}")

    def wait_for_count(self, count: int) -> list[dict[str, Any]]:
        """Return once so many endpoints are seen, each with its node: a slow machine shows a device before its line."""

        def counted() -> tuple[list[dict[str, Any]]] | None:
            seen = self.endpoints()
            return (seen,) if len(seen) == count and all(one["address"] for one in seen) else None

        return wait_for(counted, NEWS_TIMEOUT_S, f"{count} endpoints")[0]

    def claim(self, endpoint: dict[str, Any], driver: str) -> str:
        """Take what was found into use; returns the device once its driver has met it."""
        device: str = self.api("POST", f"/v1/endpoints/{endpoint['id']}/claim", {"driver": driver})["id"]
        self.api("POST", f"/v1/devices/{device}/activate")
        self.wait_for_state(device, "ready")
        return device

    def wait_for_state(self, device: str, state: str) -> dict[str, Any]:
        """Return what the API tells of a device once it is in this state."""
        return self.wait_for(f"/v1/devices/{device}", state)

    def wait_for(self, path: str, state: str) -> dict[str, Any]:
        """Return what the API tells there once its state is this one."""
        told: dict[str, Any] = {}

        def reached() -> bool:
            nonlocal told
            told = self.api("GET", path)
            return bool(told["state"] == state)

        try:
            wait_for(reached, NEWS_TIMEOUT_S, f"{path} to be {state}")
        except RigError as error:
            raise RigError(f"{error}: {told}") from None
        return told

    # -- plugs ---------------------------------------------------------------------------------------------------------

    def make(self, name: str, product: str, functions: Sequence[str], maker: str, model: str, number: str = "") -> None:
        """Describe a gadget that `clear` will forget; see `VirtualMachine.make_gadget`."""
        self._gadgets.append(name)
        self.machine.make_gadget(name, product, functions, maker, model, number)

    def plug(self, name: str, port: int) -> list[str]:
        """Plug a gadget in; returns the nodes of its own side."""
        return self.machine.plug(name, port)

    def pull(self, name: str) -> None:
        """Pull a gadget."""
        self.machine.pull(name)

    def play(self, name: str, module: str, port: int, *options: str) -> Played:
        """A gadget behind which a simulator talks once it is plugged in; `clear` ends it."""
        played = Played(self.machine, name, module, port, *options)
        self._played.append(played)
        return played

    def plug_adapter(self, name: str, number: str) -> None:
        """Plug QEMU's adapter in, with nothing at its other end."""
        self._adapters[name] = self.machine.plug_adapter(name, number)

    def pull_adapter(self, name: str) -> None:
        """Pull it."""
        self._adapters.pop(name).close()
        self.machine.pull_adapter(name)

    def tty_of(self, endpoint: dict[str, Any] | None) -> str:
        """To which tty the stable address of an endpoint leads now."""
        assert endpoint is not None
        return self.machine.sh(f"readlink -f {endpoint['address'].removeprefix('serial://')}").stdout.strip()

    def as_service(self, program: str, *arguments: str) -> str:
        """What a Python program prints that runs as the service does: its user, its groups, its control group."""
        join = "echo $$ > /sys/fs/cgroup/system.slice/hubd.service/cgroup.procs"
        drop = "setpriv --reuid=hubd --regid=hubd --init-groups --bounding-set=-all --no-new-privs"
        command = f"{join} && exec {drop} /usr/bin/python3 -c {shlex.quote(program)} {' '.join(arguments)}"
        return self.machine.sh(command).stdout

    def clear(self) -> None:
        """Pull everything and wait until nothing is seen any more."""
        for played in self._played:
            played.stop()
        self._played.clear()
        for name in self._gadgets:
            self.machine.pull(name, forget=True)
        for name in list(self._adapters):
            self.pull_adapter(name)
        self._gadgets.clear()
        self.wait_for_count(0)
