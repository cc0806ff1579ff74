"""The cloud's proofs on the hub's side: what must agree before the confirmed cursor moves (S6), and what is kept."""

from __future__ import annotations

from collections.abc import Mapping

from hubd.identity import verify_signature
from hubd.store import cursors, journal
from hubd.store.cursors import Cursor, Proof
from hubd.store.tx import Connection, Tx
from sync.codec import Confirm, Place, proof_bytes

NOT_OURS = "The cloud confirms something that this hub did not write."


def flaw(connection: Connection, confirm: Confirm, tenant: str, hub: bytes, keys: Mapping[str, bytes]) -> str:
    """What is wrong with a confirmation; empty if key, tenant, hub, line and our own hash at that place agree."""
    proof = confirm.proof
    own = journal.hash_at(connection, confirm.upto_seq)
    line = journal.line_at(connection, confirm.upto_seq)
    if proof is None or own is None or own != confirm.hash or line != confirm.line:
        return NOT_OURS
    place = Place(proof.line, proof.seq, proof.hash)
    signed = proof_bytes(tenant, hub, place, proof.time_us)
    agrees = place == Place(confirm.line, confirm.upto_seq, confirm.hash)
    if not agrees or not verify_signature(keys.get(proof.key_id, b""), proof.signature, signed):
        return "A confirmation carries a proof that does not hold."
    return ""


def keep(tx: Tx, confirm: Confirm, now_us: int) -> None:
    """Move the confirmed cursor and keep the proof, in one transaction."""
    proof = confirm.proof
    assert proof is not None, "a confirmation is proven before the cursor moves"
    cursors.put(tx, cursors.CONFIRMED, Cursor(confirm.line, confirm.upto_seq, confirm.hash, now_us))
    cursors.add_proof(tx, Proof(proof.line, proof.seq, proof.hash, proof.key_id, proof.time_us, proof.signature))
