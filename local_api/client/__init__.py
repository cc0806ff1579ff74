"""A till's side of the LAN API: pair, pay, follow. Needs nothing of the hub's own packages.

pairing = Pairing(PairingCode.parse(text_of_the_qr), "Till 1")
print("Compare with the hub's page:", pairing.number)
credential = await pairing.complete()
async with HubClient(credential, Memory.load(path)) as hub:
    payment = await hub.pay(new_id(), 1250, "EUR", tender="cash")
    await hub.keep_backup(folder)
"""

from local_api.client.client import HubClient, Pairing, new_id
from local_api.client.keeping import BackupNotKeptError
from local_api.client.memory import Memory
from local_api.client.trust import Credential, HubNotTrustedError, PairingCode
from local_api.client.wire import HubUnreachableError, ProblemError

__all__ = [
    "BackupNotKeptError",
    "Credential",
    "HubClient",
    "HubNotTrustedError",
    "HubUnreachableError",
    "Memory",
    "Pairing",
    "PairingCode",
    "ProblemError",
    "new_id",
]
