"""The tenant's key for backups: told in the cloud's journal, believed because the root signed it, rotated, used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubd.store import backup, meta, mirror, sealed
from hubd.store.backup import Contents, Made
from hubd.store.sealed import Recipient
from sync.cloud.tenant_key import make_tenant_key
from tests.unit.sync.world import TENANT, Hub, World

pytestmark = pytest.mark.blocking_allowed("it restores backups and reads key files; hubctl does that outside any loop")

FIRST, SECOND, STRANGER = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
ORDER_OF_ONE = bytes(32)
"""A point of the curve with which every key agrees on the same secret: whatever is sealed for it, anybody opens."""


def recipient(private: bytes) -> Recipient:
    return Recipient("tenant", sealed.public_key_of(private))


async def recipients(hub: Hub) -> tuple[Recipient, ...]:
    return await hub.read(backup.recipients)


async def until_sealed_for(world: World, hub: Hub, private: bytes) -> None:
    async def there() -> bool:
        return recipient(private) in await recipients(hub)

    await world.until(there, "the hub to know the tenant's key")


async def back_up(hub: Hub, folder: Path) -> Made:
    contents = Contents(folder / "none", {}, frozenset())
    return await backup.make(hub.db, folder, contents, await recipients(hub), 1, hub.runtime.ids)


async def test_a_hub_that_enrols_learns_the_tenants_key_and_either_private_key_opens_its_backups(world: World) -> None:
    await world.cloud.set_backup_key(TENANT, sealed.public_key_of(FIRST))
    hub = await world.hub()
    code = await hub.db.write("test.code", lambda tx: backup.set_recovery(tx, backup.new_recovery(hub.runtime.ids)))
    async with hub.online():
        await until_sealed_for(world, hub, FIRST)
        await hub.drained()
    assert [one.name for one in await recipients(hub)] == ["recovery", "tenant"]
    made = await back_up(hub, world.place / "backups")
    by_tenant = backup.restore(made.path, FIRST, world.place / "by-tenant")
    by_code = backup.restore(made.path, backup.private_key_for(made.path, code), world.place / "by-code")
    assert (by_tenant.seq, by_tenant.hash) == (by_code.seq, by_code.hash) == (made.seq, made.hash)
    for private in (SECOND, STRANGER, hub.signer.sign(b"x")[:32]):
        with pytest.raises(sealed.SealError, match="not sealed for this key"):
            backup.restore(made.path, private, world.place / "by-stranger")


async def test_a_rotated_key_seals_what_is_made_from_then_on(world: World) -> None:
    await world.cloud.set_backup_key(TENANT, sealed.public_key_of(FIRST))
    hub = await world.hub()
    async with hub.online():
        await until_sealed_for(world, hub, FIRST)
        before = await back_up(hub, world.place / "before")
        world.link.publish(await world.cloud.set_backup_key(TENANT, sealed.public_key_of(SECOND)))
        await until_sealed_for(world, hub, SECOND)
        await hub.drained()
        assert await world.cloud.set_backup_key(TENANT, sealed.public_key_of(SECOND)) == []
    after = await back_up(hub, world.place / "after")
    assert backup.restore(before.path, FIRST, world.place / "old").seq == before.seq
    assert backup.restore(after.path, SECOND, world.place / "new").seq == after.seq
    with pytest.raises(sealed.SealError):
        backup.restore(after.path, FIRST, world.place / "refused")
    changes = [entry.body() for entry in await hub.entries() if entry.kind == "backup.key_set"]
    assert [body["public_key"] for body in changes] == [sealed.public_key_of(one).hex() for one in (FIRST, SECOND)]
    assert [set(body) for body in changes] == [{"tenant", "public_key", "cause"}] * 2


def told(world: World, private_or_public: bytes, **more: Any) -> dict[str, Any]:
    key = private_or_public
    signature = world.keys.vouch_for_backup_key(TENANT, key).hex()
    return {"tenant": TENANT, "public_key": key.hex(), "root_signature": signature, **more}


@pytest.mark.parametrize("wrong", ["signing key", "other tenant", "other key", "no key", "weak key"])
async def test_a_key_that_the_root_has_not_signed_for_this_tenant_seals_nothing(world: World, wrong: str) -> None:
    good = sealed.public_key_of(STRANGER)
    by_signing_key = world.keys.current.sign(b"hubd.backup_key.v1\0" + bytes((len(TENANT),)) + TENANT.encode() + good)
    fields = {
        "signing key": told(world, good, root_signature=by_signing_key.hex()),
        "other tenant": told(
            world, good, tenant="t2", root_signature=world.keys.vouch_for_backup_key("t2", good).hex()
        ),
        "other key": told(world, good, public_key=sealed.public_key_of(FIRST).hex()),
        "no key": told(world, good[:31]),
        "weak key": told(world, ORDER_OF_ONE),
    }[wrong]
    hub = await world.hub()
    async with hub.online():
        await hub.drained()
        world.link.publish(await world.cloud.say(hub.signer.hub_id, "tenant.backup_key", "", fields))

        async def refused() -> int:
            return await hub.read(mirror.dead_letter_count)

        await world.until(refused, "the entry to be set aside")
    assert await recipients(hub) == ()
    assert await hub.read(lambda c: meta.get(c, meta.TENANT_KEY)) is None
    assert "backup.key_set" not in await hub.kinds()


async def test_no_key_that_opens_a_backup_lies_on_the_hubs_disk(world: World) -> None:
    private, public = world.place / "tenant.key", world.place / "tenant.pub"
    text = make_tenant_key(private, public)
    assert public.read_text().strip() == text
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        make_tenant_key(private, public)
    secret = bytes.fromhex(private.read_text())
    assert sealed.public_key_of(secret).hex() == text
    await world.cloud.set_backup_key(TENANT, bytes.fromhex(text))
    hub = await world.hub()
    async with hub.online():
        await until_sealed_for(world, hub, secret)
        await hub.drained()
    await back_up(hub, world.place / "backups")
    lying_around = [path for path in world.place.rglob("*") if path.is_file() and path != private]
    assert len(lying_around) > 2
    for path in lying_around:
        content = path.read_bytes()
        assert secret not in content, path
        assert secret.hex().encode() not in content, path
