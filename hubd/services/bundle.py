"""All services of one hub, as its edges (the API, the page, the command line's socket) meet them."""

from __future__ import annotations

from msgspec import Struct

from hubd.health import Problems
from hubd.runtime import Runtime
from hubd.services.access import AccessDesk
from hubd.services.addresses import AddressDesk
from hubd.services.device_options import OptionDesk
from hubd.services.devices import DeviceDesk
from hubd.services.dialogue import Dialogues
from hubd.services.discovery import DiscoveryDesk
from hubd.services.documents import DocumentDesk
from hubd.services.feed import Feed
from hubd.services.flush import Flusher
from hubd.services.hearing import Hearing
from hubd.services.jobs import Jobs
from hubd.services.orders import OrderDesk
from hubd.services.outages import OutageDesk
from hubd.services.overview_desk import OverviewDesk
from hubd.services.pairing import PairingDesk
from hubd.services.payments import PaymentDesk
from hubd.services.peripherals import Peripherals
from hubd.services.pins import PinHasher
from hubd.services.printing import PrintDesk
from hubd.services.probing import ProbeDesk
from hubd.services.receipts import ReceiptDesk
from hubd.services.recovery import RecoveryDesk
from hubd.services.replacement import ReplacementDesk
from hubd.services.roles import RoleDesk
from hubd.services.settings import SettingsDesk
from hubd.services.staff import StaffDesk
from hubd.services.terminal_life import TerminalLife
from hubd.services.terminals import Terminals
from hubd.services.till_lines import TillLines
from hubd.services.trials import TrialDesk
from hubd.services.weighing import WeighingDesk
from hubd.store.db import Database


class Services(Struct, frozen=True):
    """Made by `hubd.app`; every field is ready to be called."""

    runtime: Runtime
    db: Database
    jobs: Jobs
    feed: Feed
    problems: Problems
    access: AccessDesk
    pins: PinHasher
    pairing: PairingDesk
    staff: StaffDesk
    settings: SettingsDesk
    terminals: Terminals
    peripherals: Peripherals
    tills: TillLines
    replacement: ReplacementDesk
    dialogues: Dialogues
    payments: PaymentDesk
    orders: OrderDesk
    receipts: ReceiptDesk
    devices: DeviceDesk
    options: OptionDesk
    life: TerminalLife
    printing: PrintDesk
    roles: RoleDesk
    weighing: WeighingDesk
    trials: TrialDesk
    discovery: DiscoveryDesk
    probing: ProbeDesk
    addresses: AddressDesk
    flusher: Flusher
    outages: OutageDesk
    hearing: Hearing
    overview: OverviewDesk
    documents: DocumentDesk

    @property
    def recovery(self) -> RecoveryDesk:
        """The recovery code until it is on paper: a part of the set-up."""
        return self.staff.recovery
