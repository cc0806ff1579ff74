"""`hubctl backup` and `hubctl restore`: work on the files themselves, with the hub down and its disk full too."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import replace

from hubd.cli.client import Client, HubUnreachableError
from hubd.cli.common import JsonFlag, Target, dead_store, target_of
from hubd.cli.lock import LOCK_FILE, only_one
from hubd.cli.output import Exit, bytes_text, print_error, print_json, print_line, print_table, time_text
from hubd.config import Config
from hubd.errors import HubError

if TYPE_CHECKING:
    import ssl

    from hubd.store.backup import Contents, Restored

app = typer.Typer(
    help="Encrypted backups; only the recovery code or the tenant's key opens them.", no_args_is_help=True
)
MAKING_TIMEOUT_S = 600.0
HUB_KEY = "hub.key"
DEVICE_KEY = "devices.key"
"""What seals the passwords of devices: a restored hub has to open them."""
SERVICE_USER = "hubd"
FETCHED_SUFFIX = ".from-cloud"
"""Beside the data directory: where a backup lies that is being fetched."""
PLACE_CHARS_MAX = 60
KEY_BYTES = 32
KEY_FILE_BYTES_MAX = 1024


def contents_of(config: Config, config_file: Path | None) -> Contents:
    """What belongs into a backup of this hub; never its own key."""
    from hubd.store.backup import Contents

    keys = config.paths.keys
    found = sorted([*keys.glob("ca*"), keys / DEVICE_KEY]) if keys.exists() else []
    extra = {f"keys/{path.name}": path for path in found if path.is_file()}
    if config_file is not None and config_file.exists():
        extra["config/hubd.toml"] = config_file
    return Contents(config.paths.archive, extra, frozenset({keys / HUB_KEY}))


@app.command()
def make(
    context: typer.Context,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Take it to this directory too, such as a USB stick's. A hub that runs records it, and counts it if"
            " the directory is on another disk."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a backup now: verified, encrypted, read back. The hub may run or not."""
    target = target_of(context)
    config, client = target.config(), target.client()
    recorded = _made_by_the_hub(client)
    if recorded is None:
        _make_from_files(target, config, to, as_json=as_json)
        return
    path = config.paths.backups / str(recorded.pop("file"))
    another_disk = None
    if to is not None:
        path, another_disk = _take(client, recorded, path.name, to, config)
    failed = recorded["failed"]
    if as_json:
        print_json(file=str(path), another_disk=another_disk, **recorded)
    else:
        print_line(f"{path} ({bytes_text(recorded['bytes'])}): {recorded['seq']} entries, verified and read back.")
        if another_disk is False:
            print_line("That is the hub's own disk, or its memory: it does not count as a backup elsewhere.")
        elif another_disk is None and not failed:
            print_line("The hub took it to every target that is there: `hubctl status` says whether one is missing.")
        for code in failed:
            print_error(f"A target did not get it: {code}. `hubctl logs` says which.")
    if failed:
        raise typer.Exit(Exit.UNHEALTHY)


def _made_by_the_hub(client: Client) -> dict[str, Any] | None:
    """What the hub that runs says of the backup it has made; None where none answers."""
    try:
        made: dict[str, Any] = client.call("POST", "/v1/backups", timeout_s=MAKING_TIMEOUT_S)
    except HubUnreachableError:
        return None
    return made


def _take(client: Client, made: dict[str, Any], name: str, folder: Path, config: Config) -> tuple[Path, bool]:
    """Fetch the backup into a directory, read it back there, and let the hub record it.

    Returns the file and whether it is on another disk. Not the hub writes it: its sandbox may not even see the stick.
    """
    from hubd.store import copies, disks

    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{name}.part"
        with part.open("wb") as file:
            client.download(f"/v1/backups/{made['id']}/content", file)
            copies.sync_and_forget(file)
        final = copies.finish(part, str(made["sha256"]))
    except OSError as exc:
        raise _no_place(folder, exc) from exc
    another_disk = disks.is_another_disk(folder, config.paths.data)
    place = {"place": folder.resolve().name[:PLACE_CHARS_MAX] or "root", "another_disk": another_disk}
    client.call("POST", f"/v1/backups/{made['id']}/stored", {"sha256": made["sha256"], "by_hand": place})
    return final, another_disk


def _no_place(folder: Path, error: OSError) -> HubError:
    return HubError(
        "backup.no_place",
        f"It cannot be written to {folder}: {error.strerror}.",
        remedy="Name a directory on another disk: `hubctl backup make --to DIRECTORY`.",
    )


def _make_from_files(target: Target, config: Config, to: Path | None, *, as_json: bool) -> None:
    """The same while no hub runs: nobody is there to record it."""
    from hubd.runtime import SystemClock, SystemIds
    from hubd.store import backup

    folder = to or config.paths.backups
    with dead_store(config) as connection:
        recipients = backup.recipients(connection)
        if not recipients:
            raise HubError(
                "backup.no_recipient",
                "There is no recovery code yet, so nobody could open the backup.",
                remedy="Set the hub up first: `hubctl users setup` or the hub's page prints the code.",
            )
        parts, now_us = contents_of(config, target.config_file), SystemClock().now_us()
        try:
            made = backup.make_from(connection, folder, parts, recipients, now_us, SystemIds())
        except OSError as exc:
            raise _no_place(folder, exc) from exc
    if as_json:
        print_json(file=str(made.path), bytes=made.size, sha256=made.sha256, seq=made.seq, hash=made.hash)
        return
    print_line(f"{made.path} ({bytes_text(made.size)}): {made.seq} entries, verified and read back.")
    if to is None:
        print_line("It lies on the hub's own disk. Carry it elsewhere, or make it there: --to DIRECTORY.")


@app.command("list")
def list_(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="Default: the hub's own.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the backups of a directory, newest last."""
    from hubd.store import offline

    place = folder or target_of(context).config().paths.backups
    found = offline.backups_in(place)
    if as_json:
        print_json(
            backups=[{"file": str(path), "seq": seq, "made_at_us": at, "bytes": size} for path, seq, at, size in found]
        )
        return
    rows = [(time_text(at), seq, bytes_text(size), path) for path, seq, at, size in found]
    print_table(("made", "entries", "size", "file"), rows, empty=f"There is no backup in {place}.")


def restore(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="The backup.")] = None,
    from_cloud: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Or fetch the store's newest one from this cloud: https://…")
    ] = "",
    enrolment_code: Annotated[
        str,
        typer.Option(help="With --from-cloud: the code that binds this machine to the store, if nothing does yet."),
    ] = "",
    code: Annotated[str, typer.Option(help="The recovery code; asked for if it is not given.")] = "",
    key_file: Annotated[
        Path | None, typer.Option(help="Or the tenant's private key: 32 bytes, or hexadecimal.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Put a backup in the place of the hub's data, which is kept aside. The hub must be stopped."""
    from hubd.store import backup

    config = target_of(context).config()
    data = config.paths.data
    if (file is None) == (not from_cloud):
        raise typer.BadParameter("name a backup, or a cloud with --from-cloud", param_hint="FILE")
    if file is not None and not file.is_file():
        raise HubError("restore.no_file", f"{file} is not a file.", remedy="`hubctl backup list DIRECTORY`.")
    owner = _owner(data)
    fetched = None
    with only_one(data):
        if file is None:
            file = fetched = _fetch(config, from_cloud, enrolment_code, quiet=as_json)
        if key_file is not None:
            private_key = _read_key(key_file)
        else:
            private_key = backup.private_key_for(file, code or typer.prompt("Recovery code", hide_input=True))
        done = backup.restore(file, private_key, data)
    if done.kept_old is not None and _holds_nothing(done.kept_old):
        shutil.rmtree(done.kept_old)
        done = replace(done, kept_old=None)
    _give(data, owner)
    if fetched is not None:
        shutil.rmtree(fetched.parent)
    _tell(done, fetched, as_json=as_json)


def _tell(done: Restored, fetched: Path | None, *, as_json: bool) -> None:
    if as_json:
        kept, name = str(done.kept_old) if done.kept_old else None, fetched.stem if fetched else None
        print_json(seq=done.seq, hash=done.hash, kept_old=kept, fetched=name)
        return
    print_line(f"Restored: {done.seq} entries, made {time_text(done.made_at_us)}.")
    if done.kept_old is not None:
        print_line(f"What was there is kept in {done.kept_old}.")
    print_line("Start the hub: it opens a new line and asks every till what it holds.")


def _holds_nothing(folder: Path) -> bool:
    """Whether nothing was there but our own lock, and what the restored hub has taken over."""
    from hubd.store.backup import STAYS

    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} <= {LOCK_FILE, *STAYS}


def _fetch(config: Config, cloud: str, code: str, *, quiet: bool) -> Path:
    """The store's newest backup from the cloud, in a directory beside the data; a fetch that broke off goes on.

    The machine gets its key, and is enrolled with the code, before it asks: the restored hub keeps both.
    """
    import asyncio

    from hubd.identity import load_or_create_key
    from hubd.runtime import system_runtime
    from sync.cloud_backups import CloudBackups
    from sync.cloud_restore import CloudRestore
    from sync.enrolment import enrol_without_a_journal

    runtime, keys = system_runtime(), config.paths.keys
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    signer = load_or_create_key(keys / HUB_KEY, runtime.ids.token_bytes)
    beside = config.paths.data.with_name(config.paths.data.name + FETCHED_SUFFIX)
    tenths = -1

    def progress(have: int, whole: int) -> None:
        nonlocal tenths
        if not quiet and have * 10 // whole > tenths:
            tenths = have * 10 // whole
            print_line(f"{bytes_text(have)} of {bytes_text(whole)}")

    async def fetch() -> Path:
        place = await enrol_without_a_journal(config.cloud, keys, runtime, signer, cloud, code)

        async def known() -> tuple[str, ssl.SSLContext | bool]:
            return place

        source = CloudRestore(CloudBackups(runtime, signer, known), known)
        left = await source.newest()
        if not quiet:
            print_line(f"The newest backup is {left.id}, from hub {left.hub}: {bytes_text(left.bytes)}.")
        return await source.fetch(left, beside, progress)

    return asyncio.run(fetch())


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(KEY_FILE_BYTES_MAX)
    except OSError as exc:
        raise HubError("restore.no_key", f"{path} cannot be read: {exc.strerror}.", remedy="Name it.") from exc
    if len(raw) == KEY_BYTES:
        return raw
    try:
        key = bytes.fromhex(raw.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise HubError(
            "restore.no_key",
            f"{path} holds no private key.",
            remedy="It is a file of 32 bytes, or of 64 hexadecimal digits; the recovery code goes with --code.",
        )
    return key


def _owner(data: Path) -> tuple[int, int] | None:
    """Who is to own the restored files; None where we cannot give them away anyhow."""
    if os.geteuid() != 0:
        return None
    if data.exists():
        status = data.stat()
        return status.st_uid, status.st_gid
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None
    return user.pw_uid, user.pw_gid


def _give(data: Path, owner: tuple[int, int] | None) -> None:
    if owner is None:
        return
    for path in [data, *data.rglob("*")]:
        os.chown(path, *owner, follow_symlinks=False)
