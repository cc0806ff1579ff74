"""`hubctl journal`: look at entries, verify the chain, rebuild the projections. Works with the hub down."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubd.cli.common import JsonFlag, dead_store, target_of
from hubd.cli.output import Exit, print_facts, print_json, print_line, print_table
from hubd.errors import HubError

if TYPE_CHECKING:
    from hubd.store.verify import LineSeen, Report

app = typer.Typer(help="The journal: entries, their chain, and the state that follows from them.", no_args_is_help=True)
ArchivesOption = Annotated[Path | None, typer.Option(help="Folder with archived parts; default: the hub's own.")]
DIFFERENCES_SHOWN = 20
HUB_KEY = "hub.key"


@app.command("list")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """The newest entries: number, kind and what they are about."""
    from hubd.store.offline import last_entries

    with dead_store(target_of(context).config()) as connection:
        found = last_entries(connection, limit)
    if as_json:
        print_json(entries=[{"seq": seq, "kind": kind, "subject": subject} for seq, kind, subject in found])
        return
    print_table(("seq", "kind", "about"), found, empty="The journal is empty.")


@app.command()
def verify(context: typer.Context, archives: ArchivesOption = None, as_json: JsonFlag = False) -> None:
    """Check every entry, document, archive and proof; exit code 1 if something is wrong."""
    from hubd.store.verify import verify_connection

    config = target_of(context).config()
    folder = archives or config.paths.archive
    with dead_store(config) as connection:
        report = verify_connection(connection, folder if folder.exists() else None)
    if as_json:
        print_json(verify=report.as_json())
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(Exit.UNHEALTHY)


def _print_report(report: Report) -> None:
    documents = ", ".join(f"{count} {state}" for state, count in report.documents.items() if count)
    print_facts(
        [
            ("entries", report.entries),
            ("archived", f"{report.archive_entries} in {len(report.archives)} files" if report.archives else ""),
            ("lines", len(report.lines)),
            *((f"line {seen.line.hex()}", _line_text(seen)) for seen in report.lines),
            ("head", f"{report.head_seq} {report.head_hash.hex()}"),
            ("documents", documents),
            ("not understood", report.uninterpreted or ""),
            ("cloud's proof", _proof_text(report)),
        ]
    )
    for wrong in _wrongs(report):
        print_line(f"WRONG: {wrong}")
    print_line("The journal is whole." if report.ok else "The journal is NOT whole. Change nothing; keep the file.")


def _line_text(seen: LineSeen) -> str:
    return f"{seen.reason or 'goes on'}, {seen.first_seq} to {seen.head_seq} {seen.head_hash.hex()}"


def _proof_text(report: Report) -> str:
    proof = report.proof
    return f"{proof.seq} {proof.hash.hex()}, key {proof.key_id}, signature {report.proof_signature}" if proof else ""


def _wrongs(report: Report) -> list[str]:
    found = []
    if report.first_bad_seq is not None:
        found.append(f"entry {report.first_bad_seq}: {report.why}")
    if report.first_wrong_document is not None:
        found.append(f"document {report.first_wrong_document[1]} of entry {report.first_wrong_document[0]}")
    if report.proofs_mismatched:
        found.append(f"the cloud's proofs at {report.proofs_mismatched} are of another history")
    if report.archive_why:
        found.append(f"archives: {report.archive_why}")
    if report.proof_signature == "bad":
        found.append("the newest proof is not signed by the cloud's key")
    return found


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to; it must not be there yet.")],
    as_json: JsonFlag = False,
) -> None:
    """Write what the cloud has not confirmed to a file, to be imported where there is a line. Changes nothing here.

    For a hub that was replaced and has no Internet. The file is signed, not sealed: names of persons can stand in it.
    """
    from hubd.identity import load_key
    from hubd.runtime import SystemClock
    from sync import export as unsent

    config = target_of(context).config()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise HubError("export.no_place", f"{file} cannot be written: {exc.strerror}.", remedy="Name another.") from exc
    written = False
    try:
        with os.fdopen(descriptor, "wb") as target, dead_store(config) as connection:
            signer = load_key(config.paths.keys / HUB_KEY)
            header = unsent.header_of(connection, signer, SystemClock().now_us())
            if header is not None:
                for piece in unsent.export(connection, signer, header):
                    target.write(piece)
                target.flush()
                os.fsync(target.fileno())
                written = True
    finally:
        if not written:
            with contextlib.suppress(OSError):  # as the service user we may not remove what root has made
                file.unlink()
    count = header.count if header else 0
    if as_json:
        print_json(file=str(file) if header else None, entries=count, upto_seq=header.upto_seq if header else 0)
    elif header is None:
        print_line("Nothing to export: the cloud has confirmed everything.")
    else:
        print_line(f"{file}: {count} entries up to {header.upto_seq}. On the new hub: `hubctl journal import {file}`.")


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What `hubctl journal export` wrote on the other hub.")],
    as_json: JsonFlag = False,
) -> None:
    """Send another hub's exported entries to this hub's cloud. The same file again doubles nothing."""
    from sync.enrolment import hand_over

    config = target_of(context).config()
    try:
        with file.open("rb") as source:
            done = hand_over(config.cloud, config.paths.keys, source)
    except OSError as exc:
        raise HubError("import.no_file", f"{exc.filename or file}: {exc.strerror}.", remedy="Name the file.") from exc
    if as_json:
        print_json(hub=done.hub, entries=done.entries, new=done.new, upto_seq=done.upto_seq)
        return
    print_line(f"The cloud has all {done.entries} entries of the file; {done.new} of them were new to it.")


@app.command()
def replay(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Compare with the state the hub works with.")] = False,
    archives: ArchivesOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Rebuild the state from the entries alone and compare; exit code 1 if they differ. Changes nothing."""
    from hubd.store import replay as replays

    if not check:
        raise typer.BadParameter("say --check: a replay only ever compares, it never writes")
    config = target_of(context).config()
    folder = archives or config.paths.archive
    with dead_store(config) as connection:
        found = replays.check(connection, folder if folder.exists() else None)
    if as_json:
        print_json(replay=found.as_json())
    else:
        print_line(f"{found.entries} entries replayed.")
        if found.failed:
            print_line(f"WRONG: {found.failed}")
        for difference in found.differences[:DIFFERENCES_SHOWN]:
            print_line(f"DIFFERS: {difference}")
        print_line("State and entries agree." if found.ok else "State and entries do NOT agree.")
    if not found.ok:
        raise typer.Exit(Exit.UNHEALTHY)
