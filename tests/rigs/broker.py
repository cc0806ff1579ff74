"""A real mosquitto with a directory, port and configuration of its own, to be stopped, killed and frozen by a test.

async with Broker(users={"hub": "secret"}) as broker:
    ...connect to broker.host, broker.port...
    await broker.kill()        # SIGKILL: nothing is saved on the way out
    await broker.start()       # the same port and the same persistent store
    broker.freeze()            # it holds its connections and answers nothing
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.rigs.certificates import ServerCertificate, make_server_certificate
from tests.rigs.process import Child, RigError, free_port, require_tool, run, wait_until

HOST = "127.0.0.1"
START_TIMEOUT_S = 10.0


async def accepts(host: str, port: int) -> bool:
    """Whether something takes TCP connections there now; asked without blocking the loop."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


class Broker:
    """One broker; what it keeps survives `stop`, `kill` and `start` until the context ends."""

    def __init__(
        self,
        *,
        tls: bool = False,
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        autosave_on_changes: bool = True,
        autosave_interval: int = 1,
        persistent: bool = True,
        port: int | None = None,
    ) -> None:
        """Describe the broker. `users` are names with passwords (none: everybody may enter); `acl` is mosquitto's text.

        By default every change is saved a moment after it was acknowledged: mosquitto's best, see `wait_saved`. With
        `autosave_on_changes=False, autosave_interval=1800` it is the broker as a distribution ships it, which forgets
        on SIGKILL all that it had acknowledged in the last half hour.
        """
        self.host = HOST
        self.port = port or free_port()
        self.certificate: ServerCertificate | None = None
        self._tls, self._users, self._acl = tls, dict(users or {}), acl
        self._autosave = (autosave_interval, autosave_on_changes)
        self._persistent = persistent
        self._place: Path | None = None
        self._child: Child | None = None

    @property
    def running(self) -> bool:
        """Whether the broker's process lives (a frozen one does)."""
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int:
        """The broker's process id."""
        return self._process.pid

    @property
    def _process(self) -> Child:
        if self._child is None:
            raise RigError("enter the broker's context first")
        return self._child

    def log(self) -> str:
        """Everything the broker has logged, over all its lives."""
        return self._process.stderr() + self._process.stdout()

    async def __aenter__(self) -> Self:
        """Write the configuration and start."""
        self._place = Path(tempfile.mkdtemp(prefix="hubd-broker-"))
        try:
            config = self._configure(self._place)
            self._child = Child([require_tool("mosquitto", "mosquitto"), "-c", config])
            await self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the broker and remove its directory."""
        self._clean_up()

    def _clean_up(self) -> None:
        if self._child is not None:
            self._child.close()
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)

    def _configure(self, place: Path) -> Path:
        store = place / "store"
        store.mkdir()
        interval, on_changes = self._autosave
        lines = [
            "user root",  # otherwise a broker started by root would leave root and not reach its own directory
            f"listener {self.port} {HOST}",
            f"allow_anonymous {str(not self._users).lower()}",
            f"persistence {str(self._persistent).lower()}",
            f"persistence_location {store}/",
            f"autosave_interval {interval}",
            f"autosave_on_changes {str(on_changes).lower()}",
            "max_queued_messages 0",
            "log_dest stderr",
            "log_type all",
        ]
        if self._tls:
            self.certificate = make_server_certificate(place)
            lines += [f"certfile {self.certificate.certificate}", f"keyfile {self.certificate.key}"]
        if self._users:
            passwords = place / "passwords"
            passwords.touch(mode=0o600)
            for name, password in self._users.items():
                run(require_tool("mosquitto_passwd", "mosquitto"), "-b", passwords, name, password)
            lines.append(f"password_file {passwords}")
        if self._acl is not None:
            (place / "acl").write_text(self._acl, encoding="utf-8")
            lines.append(f"acl_file {place / 'acl'}")
        config = place / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return config

    async def start(self) -> None:
        """Start (again) and return when it accepts connections."""
        lives = self._said_running()
        self._process.start()

        async def listening() -> bool:
            if not self._process.running:
                raise RigError(f"mosquitto ended with {self._process.returncode}\n{self.log()[-2000:]}")
            # Its own word first: another program on the port would answer too.
            return self._said_running() > lives and await accepts(self.host, self.port)

        await wait_until(listening, START_TIMEOUT_S, f"mosquitto on port {self.port}")

    async def wait_saved(self, payload: bytes) -> None:
        """Return when the persistent store on the disk holds `payload`.

        mosquitto acknowledges first and saves on its next turn: between the two, a SIGKILL loses what was acknowledged.
        """
        assert self._place is not None
        store = self._place / "store" / "mosquitto.db"
        await wait_until(
            lambda: store.exists() and payload in store.read_bytes(), START_TIMEOUT_S, f"{payload!r} saved"
        )

    def _said_running(self) -> int:
        """How many of its lives have logged that they got their port and run."""
        return sum(line.endswith(" running") for line in self.log().splitlines())

    async def stop(self) -> None:
        """SIGTERM: the broker says goodbye, saves and ends."""
        self._process.signal(signal.SIGTERM)
        await wait_until(lambda: not self.running, START_TIMEOUT_S, "mosquitto to stop")

    async def kill(self) -> None:
        """SIGKILL: no goodbye, no saving; the kernel closes its connections."""
        self._process.kill()

    async def restart(self) -> None:
        """An orderly stop and a start on the same port with the same store."""
        await self.stop()
        await self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and silent, new ones are taken by the kernel and never answered."""
        self._process.freeze()

    def thaw(self) -> None:
        """SIGCONT: undo `freeze`."""
        self._process.thaw()
