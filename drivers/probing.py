"""What hangs on a serial line, found out by asking harmless questions. A person has asked for it.

Adapters look alike, so a line says nothing of its device. Each driver that can be recognised declares how in its
manifest (`Probe`), and all of them are tried in one fixed order: first the line is only listened to, and one that talks
by itself is asked nothing; then come the questions, those first that nothing else could take for a command. No question
is one that can move money, weigh, zero, or print. What was heard is compared and forgotten: it may be anything.
Order and questions: protocols of the devices, sections on their lines, and ADR 20.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from msgspec import Struct

from drivers.base import Manifest, Probe
from hubd.discovery_ports import Probed, ProbeOutcome
from hubd.errors import DeviceError
from hubd.ports import ByteStream, OpenTransport
from hubd.runtime import Clock

log = logging.getLogger(__name__)

LISTEN_S = 1.0
"""For a device that talks by itself: scales that do say something ten times a second."""
QUIET_S = 0.15
QUIET_WITHIN_S = 2.0
"""After an answer the line must fall silent: a device that goes on is asked nothing more."""
CONNECT_WITHIN_S = 5.0
"""For an address in the shop's own network."""
HEARD_MAX = 512
"""Bytes of an answer; no device that is looked for says more."""
READ_BYTES_MAX = 256


class Candidate(Struct, frozen=True):
    """One way of asking, at one setting of the line."""

    driver: str
    probe: Probe
    line: str


def candidates(manifests: Iterable[Manifest]) -> list[Candidate]:
    """Every way of asking in the order in which they are tried; those that only listen first."""
    found = [
        Candidate(manifest.id, probe, line)
        for manifest in manifests
        for probe in manifest.probes
        for line in probe.lines or (manifest.line,)
    ]
    return sorted(found, key=lambda one: (not one.probe.listens, one.probe.order))


async def find_out(url: str, manifests: Iterable[Manifest], open_transport: OpenTransport, clock: Clock) -> Probed:
    """Ask what hangs on the line at `url`, which has no settings of its own. Sends nothing to a line that talks.

    Bounded: about ten seconds. Raises OSError when the line cannot be opened: it is gone, or somebody uses it.
    """
    ways = candidates(manifests)
    listeners = [one for one in ways if one.probe.listens]
    for line in dict.fromkeys(one.line for one in listeners or ways[:1]):
        heard = await _listen(f"{url}?{line}", open_transport, clock)
        if heard:
            known = (one for one in listeners if one.line == line and _matches(one.probe.steps[0].expect, heard))
            return _recognised(next(known, None))
    for way in ways[len(listeners) :]:
        answered, talks = await _ask(f"{url}?{way.line}", way.probe, open_transport, clock)
        if answered or talks:
            return _recognised(None if talks else way)
    return Probed(ProbeOutcome.SILENT)


async def look_at(url: str, manifest: Manifest, open_transport: OpenTransport, clock: Clock) -> Probed | None:
    """Ask at a network address as the driver that a person has named asks; None where it has no harmless question.

    Then the line was opened and closed. Bounded: about ten seconds. Raises OSError when nobody can be reached.
    """

    async def opened(at: str) -> ByteStream:
        async with clock.timeout(CONNECT_WITHIN_S):
            return await open_transport(at)

    probes = sorted((one for one in manifest.probes if not one.serial_only), key=lambda one: one.order)
    if not probes:
        await (await opened(url)).close()
        return None
    talks = False
    for probe in probes:
        if probe.listens:
            heard = await _listen(url, opened, clock)
            answered, talks = _matches(probe.steps[0].expect, heard), talks or bool(heard)
        else:
            answered, noise = await _ask(url, probe, opened, clock)
            talks = talks or noise
        if answered:
            return _recognised(Candidate(manifest.id, probe, ""))
    return _recognised(None) if talks else Probed(ProbeOutcome.SILENT)


def _recognised(way: Candidate | None) -> Probed:
    outcome = Probed(ProbeOutcome.RECOGNISED, way.driver, way.line) if way else Probed(ProbeOutcome.TALKS)
    log.info("device.probed", extra={"result": outcome.outcome.value, "driver": outcome.driver})
    return outcome


async def _listen(url: str, open_transport: OpenTransport, clock: Clock) -> bytes:
    stream = await open_transport(url)
    try:
        return await _hear(stream, clock, LISTEN_S, rb"(?!)")
    finally:
        await stream.close()


async def _ask(url: str, probe: Probe, open_transport: OpenTransport, clock: Clock) -> tuple[bool, bool]:
    """Whether it answers as it should, and whether it says other things without end."""
    try:
        stream = await open_transport(url)
    except DeviceError as error:
        if error.code == "device.line_settings":
            return False, False  # this adapter has no such setting, so no such device hangs on it
        raise
    try:
        answered = await _all_steps(stream, probe, clock)
        if probe.after:
            await stream.write(probe.after)
        return answered, not await _falls_silent(stream, clock)
    except OSError:
        return False, False  # a device that hangs up on a question is not the one that was meant
    finally:
        await stream.close()


async def _all_steps(stream: ByteStream, probe: Probe, clock: Clock) -> bool:
    for step in probe.steps:
        await stream.write(step.send)
        heard = await _hear(stream, clock, step.within_s, step.expect)
        if not _matches(step.expect, heard):
            return False
    for reply in probe.thanks:
        await stream.write(reply)
        await _hear(stream, clock, QUIET_S, rb"(?!)")
    return True


def _matches(expect: bytes, heard: bytes) -> bool:
    return re.search(expect, heard, re.DOTALL) is not None


async def _hear(stream: ByteStream, clock: Clock, within_s: float, expect: bytes) -> bytes:
    """What comes within this time, or until it is what was expected; a line that is lost says nothing more."""
    heard = b""
    try:
        async with clock.timeout(within_s):
            while len(heard) < HEARD_MAX and not _matches(expect, heard):
                data = await stream.read(READ_BYTES_MAX)
                if not data:
                    break
                heard += data
    except OSError:  # TimeoutError is one, and so is a line that was lost: then nothing more comes
        pass
    return heard


async def _falls_silent(stream: ByteStream, clock: Clock) -> bool:
    end = clock.monotonic() + QUIET_WITHIN_S
    while await _hear(stream, clock, QUIET_S, rb"(?!)"):
        if clock.monotonic() > end:
            return False
    return True
