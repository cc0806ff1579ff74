"""The hub's own CA: for its own names alone, good without a clock, remade when the shop's network changes."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from local_api.client.trust import HubNotTrustedError, check_ca, pinned_context
from local_api.tls import (
    FLOOR,
    CertificateStore,
    Names,
    _load_key,
    _new_key,
    _pem,
    certificate_fingerprint,
    make_leaf,
    names_of,
)

HUB = "ab" * 16
pytestmark = pytest.mark.blocking_allowed("certificates are files; no loop is involved")


@dataclass
class Wall:
    """A clock that can be wrong."""

    now: datetime = datetime(2027, 6, 1, tzinfo=UTC)
    trusted: bool = True
    folder: Path = field(default_factory=Path)

    def store(self) -> CertificateStore:
        return CertificateStore(self.folder / "keys", HUB, lambda: self.now, lambda: self.trusted)

    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / "keys" / "leaf.pem").read_bytes())


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    return Wall(folder=tmp_path)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = None) -> None:
    """A TLS handshake in memory; raises what the client would."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(8):
        for side in (one, other):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()


def test_keys_are_for_the_hub_alone_and_the_ca_stays(wall: Wall) -> None:
    store = wall.store()
    fingerprint = store.fingerprint()
    store.context(["192.168.1.10"])
    for name in ("ca.key", "leaf.key"):
        assert stat.S_IMODE((wall.folder / "keys" / name).stat().st_mode) == 0o600
    assert wall.store().fingerprint() == fingerprint
    assert certificate_fingerprint(store.ca()[0].public_bytes(Encoding.DER)) == fingerprint
    assert not list((wall.folder / "keys").glob("*.new"))


def test_a_leaf_lives_800_days_at_most_and_is_remade_in_time(wall: Wall) -> None:
    store = wall.store()
    assert store.renew(["192.168.1.10"])
    assert not store.renew(["192.168.1.10"])
    leaf = wall.leaf()
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=800)
    assert leaf.not_valid_before_utc < wall.now
    wall.now = leaf.not_valid_after_utc - timedelta(days=30)
    assert store.renew(["192.168.1.10"])
    assert wall.leaf().serial_number != leaf.serial_number


def test_new_addresses_make_a_new_leaf_and_public_ones_are_not_vouched_for(wall: Wall) -> None:
    store = wall.store()
    store.renew(["192.168.1.10"])
    assert store.renew(["192.168.1.77", "8.8.8.8", "fe80::1%eth0"])
    shown = wall.leaf().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(one) for one in shown.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "192.168.1.77", "fe80::1"}
    assert shown.get_values_for_type(x509.DNSName) == ["hubd-abababab.local", "localhost"]


def test_half_a_renewal_is_repaired(wall: Wall) -> None:
    store = wall.store()
    store.renew(["192.168.1.10"])
    shutil.copy(wall.folder / "keys" / "ca.key", wall.folder / "keys" / "leaf.key")
    assert store.renew(["192.168.1.10"])
    (wall.folder / "keys" / "leaf.pem").write_bytes(b"half of it")
    assert store.renew(["192.168.1.10"])


def test_a_clock_of_1970_makes_certificates_that_a_right_clock_accepts(wall: Wall) -> None:
    wall.now, wall.trusted = datetime(1970, 1, 1, tzinfo=UTC), False
    store = wall.store()
    server = store.context(["192.168.1.10"])
    leaf = wall.leaf()
    assert leaf.not_valid_before_utc == FLOOR
    assert leaf.not_valid_after_utc - FLOOR == timedelta(days=800)
    shake_hands(server, pinned_context(store.ca_file.read_text("ascii")))
    # The clock is repaired, far beyond the leaf's end: it is remade at once.
    wall.now, wall.trusted = leaf.not_valid_after_utc + timedelta(days=1), True
    assert store.renew(["192.168.1.10"])


def test_a_hub_restored_on_a_new_machine_keeps_the_name_that_its_ca_vouches_for(wall: Wall) -> None:
    """The new machine has a new key and so a new id; the CA came out of the backup, and only its name gets through."""
    wall.store().context(["192.168.1.10"])
    (wall.folder / "keys" / "leaf.pem").unlink()
    restored = CertificateStore(wall.folder / "keys", "cd" * 16, lambda: wall.now, lambda: wall.trusted)
    assert restored.name() == wall.store().name() == "hubd-abababab.local"
    client = pinned_context(restored.ca_file.read_text())
    client.check_hostname = True
    for name in ("hubd-abababab.local", "192.168.1.11"):
        shake_hands(restored.context(["192.168.1.11"]), client, name)


def test_a_pinning_till_needs_no_date_and_takes_no_other_key(wall: Wall, tmp_path: Path) -> None:
    wall.now = datetime(2026, 2, 1, tzinfo=UTC)
    store = wall.store()
    long_ago = Wall(now=datetime(2026, 2, 1, tzinfo=UTC), folder=tmp_path / "other")
    server = store.context(["192.168.1.10"])
    shake_hands(server, pinned_context(store.ca_file.read_text("ascii")))
    key = _new_key()
    folder = wall.folder / "keys"
    names = names_of(HUB, ["192.168.1.10"])
    years_away = make_leaf(names, key.public_key(), *store.ca(), datetime(2034, 1, 1, tzinfo=UTC), True)
    (folder / "away.pem").write_bytes(years_away.public_bytes(Encoding.PEM) + store.ca_file.read_bytes())
    (folder / "away.key").write_bytes(_pem(key))
    server.load_cert_chain(folder / "away.pem", folder / "away.key")
    shake_hands(server, pinned_context(store.ca_file.read_text("ascii")))
    with_clock = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with_clock.check_hostname = False
    with_clock.load_verify_locations(store.ca_file)
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        shake_hands(server, with_clock)
    stranger = long_ago.store()
    foreign = stranger.context(["192.168.1.10"])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(foreign, pinned_context(store.ca_file.read_text("ascii")))
    with pytest.raises(HubNotTrustedError):
        check_ca(stranger.ca_file.read_text("ascii"), store.fingerprint())
    assert check_ca(store.ca_file.read_text("ascii"), store.fingerprint())
    with pytest.raises(HubNotTrustedError):
        check_ca("no certificate", store.fingerprint())


def test_whoever_trusts_the_ca_trusts_it_for_this_hub_alone(wall: Wall) -> None:
    store = wall.store()
    ca, ca_key = store.ca()
    browser = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    browser.load_verify_locations(store.ca_file)
    own = store.context(["192.168.1.10"])
    browser.verify_flags |= ssl.VerifyFlags(0x200000)  # no check of time: the test's clock is not the machine's
    shake_hands(own, browser, "hubd-abababab.local")
    shake_hands(own, browser, "192.168.1.10")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(own, browser, "192.168.1.11")
    # A stolen CA key signs for a bank: browsers refuse, because the CA may not vouch for that name.
    key = _new_key()
    bank = make_leaf(Names(HUB, ("www.bank.example",), ()), key.public_key(), ca, ca_key, wall.now, True)
    folder = wall.folder / "keys"
    chain = bank.public_bytes(Encoding.PEM) + ca.public_bytes(Encoding.PEM)
    (folder / "bank.pem").write_bytes(chain)
    (folder / "bank.key").write_bytes(_pem(key))
    assert _load_key(folder / "bank.key").public_key() == key.public_key()
    thief = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    thief.load_cert_chain(folder / "bank.pem", folder / "bank.key")
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(thief, browser, "www.bank.example")
