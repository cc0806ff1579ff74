"""A shop's network of two namespaces, and in one of them real office printers: avahi announces, ippeveprinter prints.

Needs root, iproute2, util-linux, dbus, avahi-daemon, avahi-utils and cups-ipp-utils. Nothing of it touches the network
of this machine, and the bus is a private one.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.rigs.process import Child, require_tool, run, wait_for

HUB_ADDRESS, PRINTER_ADDRESS = "10.77.0.1", "10.77.0.2"
START_TIMEOUT_S = 30.0
_NUMBERS = itertools.count()
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={place}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/>
<allow receive_type="signal"/><allow send_type="signal"/></policy></busconfig>
"""
_AVAHI = """[server]
host-name=office
use-ipv4=yes
use-ipv6=no
allow-interfaces={interface}
[publish]
publish-workstation=no
"""
_PRIVATE_RUN = 'mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && exec avahi-daemon "$@"'


class Office:
    """While it is entered: the namespaces, a bus and avahi, and every child that was started in them."""

    def __init__(self) -> None:
        for tool, package in (
            ("ip", "iproute2"),
            ("unshare", "util-linux"),
            ("dbus-daemon", "dbus"),
            ("avahi-daemon", "avahi-daemon"),
            ("avahi-publish", "avahi-utils"),
            ("ippeveprinter", "cups-ipp-utils"),
        ):
            require_tool(tool, package)
        mark = f"{os.getpid()}x{next(_NUMBERS)}"
        self._hub, self._printers = f"hubd-{mark}-h", f"hubd-{mark}-p"
        self._cable, self._plug = f"h{mark}", f"p{mark}"
        self._children: list[Child] = []
        self.place = Path(tempfile.mkdtemp(prefix="hubd-office-"))

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def _build(self) -> None:
        run("ip", "netns", "add", self._hub)
        run("ip", "netns", "add", self._printers)
        run("ip", "-n", self._hub, "link", "add", self._cable, "type", "veth", "peer", "name", self._plug)
        run("ip", "-n", self._hub, "link", "set", self._plug, "netns", self._printers)
        ends = ((self._hub, self._cable, HUB_ADDRESS), (self._printers, self._plug, PRINTER_ADDRESS))
        for space, link, address in ends:
            run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", link)
            for one in ("lo", link):
                run("ip", "-n", space, "link", "set", one, "up")
            run("ip", "-n", space, "route", "add", "224.0.0.0/4", "dev", link)
        (self.place / "bus.conf").write_text(_BUS.format(place=self.place))
        (self.place / "avahi.conf").write_text(_AVAHI.format(interface=self._plug))
        self.among_printers("dbus-daemon", f"--config-file={self.place}/bus.conf", "--nofork", "--nopidfile")
        wait_for((self.place / "bus").exists, START_TIMEOUT_S, "the bus")
        self.avahi = self.announcer()

    def announcer(self) -> Child:
        """Start avahi; who was announced by another one is not announced by this one."""
        private = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _PRIVATE_RUN, "avahi")
        options = ("--no-drop-root", "--no-chroot", "--no-rlimits", "--no-proc-title", "-f", self.place / "avahi.conf")
        started = self.among_printers(*private, *options)
        started.wait_for_text("Server startup complete", START_TIMEOUT_S)
        return started

    def _clean_up(self) -> None:
        for child in reversed(self._children):
            child.close()
        for space in (self._hub, self._printers):
            run("ip", "netns", "del", space, check=False)
        shutil.rmtree(self.place, ignore_errors=True)

    def _start(self, space: str, argv: tuple[str | Path, ...], env: Mapping[str, str]) -> Child:
        child = Child(["ip", "netns", "exec", space, *argv], env=env, stop_timeout_s=40)
        self._children.append(child)
        return child.start()

    def among_printers(self, *argv: str | Path) -> Child:
        """A program in the printers' namespace; it speaks to the private bus."""
        return self._start(self._printers, argv, {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.place}/bus"})

    def at_the_hub(self, *argv: str | Path, **env: str) -> Child:
        """A program in the hub's namespace."""
        return self._start(self._hub, argv, env)

    def publish(self, name: str, service: str, port: int, **txt: str) -> Child:
        """Let avahi announce a service for as long as the child runs."""
        said = [f"{key}={value}" for key, value in txt.items()]
        child = self.among_printers("avahi-publish", "-s", name, service, str(port), *said)
        child.wait_for_text("Established under name", START_TIMEOUT_S)
        return child

    def printer(
        self, name: str, port: int, command: str = "true", formats: str = "application/pdf,text/plain"
    ) -> Child:
        """An IPP printer, which runs `command` with each document's file; they are kept in `spool`."""
        self.spool.mkdir(exist_ok=True)
        script = self.place / f"print-{port}"
        script.write_text(f"#!/bin/sh\n{command}\n")
        script.chmod(0o755)
        options = ("-k", "-d", self.spool, "-p", str(port), "-f", formats, "-c", script)
        child = self.among_printers("ippeveprinter", "-v", *options, name)
        child.wait_for_text("printer-uuid", START_TIMEOUT_S)
        return child

    @property
    def spool(self) -> Path:
        """Where the printer keeps what it was given."""
        return self.place / "spool"

    def spooled(self, ending: str = "pdf") -> list[Path]:
        """The documents of a kind that printers were given, oldest first."""
        return sorted(self.spool.glob(f"*.{ending}"), key=lambda one: one.stat().st_mtime_ns)

    def pull_the_cable(self, *, out: bool) -> None:
        """Between hub and printers."""
        run("ip", "-n", self._printers, "link", "set", self._plug, "down" if out else "up")
        if not out:
            run("ip", "-n", self._printers, "route", "replace", "224.0.0.0/4", "dev", self._plug)
