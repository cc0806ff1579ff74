"""A code of enrolment (domain D08): for one use, for a time, and refused after either."""

from __future__ import annotations

import pytest

from hubd.errors import AccessError
from sync.cloud.cloud import Enrolled, enrol_bytes
from tests.unit.sync.world import Hub, World


async def present(world: World, hub: Hub, code: str) -> Enrolled:
    key = hub.signer.public_key
    return await world.cloud.enrol(code, key, b"n", hub.signer.sign(enrol_bytes(code, key, b"n")))


async def refusal(world: World, hub: Hub, code: str) -> str:
    with pytest.raises(AccessError) as caught:
        await present(world, hub, code)
    return caught.value.code


async def test_d08_a_code_used_twice_is_refused_and_its_own_hub_hears_the_same_again(world: World) -> None:
    first, second = await world.hub("first", key=1), await world.hub("second", key=2)
    await world.cloud.add_code("once", "t1", "s1")
    done = await present(world, first, "once")
    assert (done.tenant, done.store) == ("t1", "s1")
    assert await refusal(world, second, "once") == "enrol.spent"
    assert await refusal(world, second, "never-given") == "enrol.code"
    assert (await present(world, first, "once")).store == "s1", "its answer may have been lost: no second use"
    assert await refusal(world, second, "once") == "enrol.spent"


async def test_d08_a_code_expires_unused(world: World) -> None:
    hub = await world.hub("late", key=1)
    await world.cloud.add_code("old", "t1", "s1", uses=5, lifetime_s=0)
    assert await refusal(world, hub, "old") == "enrol.expired"
