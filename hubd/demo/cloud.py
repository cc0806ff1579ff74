"""The demo's cloud: the reference cloud in this process, with the acquirer that decides by test amounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hubd.cloud_ports import LinkAddress, Signer
from hubd.model.entry import Draft
from hubd.runtime import Runtime
from hubd.store import enrolment, journal
from hubd.store.db import Database
from sync.cloud.cloud import ReferenceCloud, enrol_bytes
from sync.cloud.keys import load_or_create_keys
from sync.cloud.link import InProcessCloud
from sync.cloud.settlement import TestAmountAcquirer
from sync.cloud.store import ThreadRunner

TENANT = "demo"
STORE = "demo-store"
NONCE_BYTES = 16


@asynccontextmanager
async def demo_cloud(folder: Path, runtime: Runtime) -> AsyncIterator[InProcessCloud]:
    """A cloud that keeps its ledger and keys in `folder`; its `run` must be running to answer."""
    keys = await asyncio.to_thread(load_or_create_keys, folder / "keys", runtime.ids.token_bytes)
    cloud = ReferenceCloud(ThreadRunner(folder / "cloud.db"), keys, runtime, TestAmountAcquirer())
    try:
        yield InProcessCloud(cloud, runtime.clock)
    finally:
        await cloud.close()


async def enrol(db: Database, cloud: ReferenceCloud, signer: Signer, runtime: Runtime, location: str) -> None:
    """Bind the hub to the demo's tenant and store, once; afterwards this does nothing."""
    if await db.read("demo.enrolled", enrolment.get) is not None:
        return
    code, nonce = runtime.ids.new_id(), runtime.ids.token_bytes(NONCE_BYTES)
    await cloud.add_code(code, TENANT, STORE, (location,))
    signature = signer.sign(enrol_bytes(code, signer.public_key, nonce))
    done = await cloud.enrol(code, signer.public_key, nonce, signature)
    body = {
        "tenant": done.tenant,
        "store": done.store,
        "locations": list(done.locations),
        "root_key": done.root_key.hex(),
    }
    await db.write("demo.enrol", lambda tx: journal.append(tx, Draft("hub.enrolled", "", "hub", body)))


class DemoAddress:
    """Where the demo hub's topics are: nowhere until it is enrolled. In process there is only one broker."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._hub_id = ""

    def known(self, hub_id: str) -> None:
        """The hub is enrolled; wake the conversation after this."""
        self._hub_id = hub_id

    async def __call__(self) -> LinkAddress | None:
        """See `AddressSource`."""
        if not self._hub_id:
            return None
        return LinkAddress(TENANT, self._hub_id, f"{self._hub_id}-{self._runtime.start_id}")
