"""The broker rig itself, seen through mosquitto's own clients: an independent peer, not our code."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from tests.rigs.broker import Broker, accepts
from tests.rigs.process import RigError, require_tool, run

TOPIC = "rig/kept"
NOTHING_CAME_S = "1"
TIMED_OUT = 27


async def client(program: str, broker: Broker, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of mosquitto's clients to its end, with MQTT 5."""
    tool = require_tool(program, "mosquitto-clients")
    trust = ["--cafile", str(broker.certificate.authority)] if broker.certificate else []
    argv = [tool, "-V", "5", "-h", broker.host, "-p", str(broker.port), *trust, *arguments]
    return await asyncio.to_thread(run, *argv, check=False)


async def publish(broker: Broker, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Publish a retained message and wait for the broker's acknowledgement."""
    return await client("mosquitto_pub", broker, "-q", "1", "-r", "-t", TOPIC, "-m", text, *arguments)


async def retained(broker: Broker, *arguments: str) -> str | None:
    """The retained message, or None if the broker has none."""
    done = await client("mosquitto_sub", broker, "-t", TOPIC, "-C", "1", "-W", NOTHING_CAME_S, *arguments)
    assert done.returncode in (0, TIMED_OUT), done
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


async def test_what_was_saved_survives_sigkill() -> None:
    async with Broker() as broker:
        assert (await publish(broker, "first")).returncode == 0
        await broker.wait_saved(b"first")
        await broker.kill()
        assert not broker.running
        assert not await accepts(broker.host, broker.port)
        await broker.start()
        assert await retained(broker) == "first"


async def test_a_broker_as_shipped_forgets_on_sigkill_and_saves_on_stop() -> None:
    """The control for the test above, and the trap that a store's broker must be configured against."""
    async with Broker(autosave_on_changes=False, autosave_interval=1800) as broker:
        assert (await publish(broker, "first")).returncode == 0
        await broker.restart()
        assert await retained(broker) == "first"
        assert (await publish(broker, "second")).returncode == 0
        await broker.kill()
        await broker.start()
        assert await retained(broker) != "second"


async def test_a_frozen_broker_holds_the_port_and_answers_nothing() -> None:
    async with Broker() as broker:
        broker.freeze()
        assert await accepts(broker.host, broker.port)
        reader, writer = await asyncio.open_connection(broker.host, broker.port)
        # CONNECT of MQTT 3.1.1 with a clean session and an empty client id.
        writer.write(bytes.fromhex("100c00044d5154540402003c0000"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(4), 0.3)  # noqa: TID251 - silence has to be listened to
        broker.thaw()
        assert await asyncio.wait_for(reader.read(4), 5) == bytes.fromhex("20020000")  # noqa: TID251 - real sockets
        writer.close()


async def test_passwords_and_acls_are_enforced() -> None:
    acl = f"user hub\ntopic write {TOPIC}\nuser cloud\ntopic read {TOPIC}\n"
    async with Broker(users={"hub": "till-4711", "cloud": "c"}, acl=acl) as broker:
        assert (await publish(broker, "no name")).returncode != 0
        assert (await publish(broker, "wrong", "-u", "hub", "-P", "guess")).returncode != 0
        assert (await publish(broker, "right", "-u", "hub", "-P", "till-4711")).returncode == 0
        assert await retained(broker, "-u", "cloud", "-P", "c") == "right"
        await publish(broker, "not allowed", "-u", "cloud", "-P", "c")
        assert await retained(broker, "-u", "cloud", "-P", "c") == "right"


async def test_tls_is_spoken_and_checked() -> None:
    async with Broker(tls=True) as broker, Broker(tls=True) as other:
        assert (await publish(broker, "sealed")).returncode == 0
        assert await retained(broker) == "sealed"
        # The authority of another broker must not be good for this one.
        broker.certificate, right = other.certificate, broker.certificate
        assert (await publish(broker, "forged")).returncode != 0
        broker.certificate = right
        assert await retained(broker) == "sealed"


async def test_a_port_in_use_is_said_and_leaves_no_process() -> None:
    async with Broker() as broker:
        second = Broker(port=broker.port)
        with pytest.raises(RigError, match="Address already in use"):
            await second.__aenter__()
        assert not second.running
    assert not broker.running
