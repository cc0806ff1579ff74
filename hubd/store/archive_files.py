"""The files of an archive: gzip JSON lines, synced and read back. docs/reference/journal.md is the specification."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from hubd.errors import StoreError
from hubd.model.entry import DOCUMENT_DOMAIN, Document, Json

LINE_BYTES_MAX = 1 * 1024 * 1024
"""Longest line of a file; an entry of 64 KiB and a document of 256 KiB stay far below."""
COPY_BYTES = 1 * 1024 * 1024

_NAME = re.compile(r"(\d{12})-(\d{12})\.journal\.jsonl\.gz")


class ArchiveDamagedError(StoreError):
    """A file of the archive cannot be read as what it should be."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            "store.archive_damaged",
            f"The archive file {path.name} is damaged: {why}.",
            remedy="Copy the file back from a backup; the database is not touched.",
        )


class Name(Struct, frozen=True):
    """The three files of one range of entries."""

    from_seq: int
    upto_seq: int

    @property
    def stem(self) -> str:
        """Both seqs in twelve digits."""
        return f"{self.from_seq:012d}-{self.upto_seq:012d}"

    @property
    def journal(self) -> str:
        """The entries."""
        return f"{self.stem}.journal.jsonl.gz"

    @property
    def documents(self) -> str:
        """The documents that moved there."""
        return f"{self.stem}.documents.jsonl.gz"

    @property
    def projection(self) -> str:
        """The projections as they were after the last entry."""
        return f"{self.stem}.projection.jsonl.gz"


class ArchivedEntry(Struct, frozen=True):
    """An entry as its line in a file tells it."""

    seq: int
    head: bytes
    body: bytes
    hash: bytes


def names(folder: Path) -> list[Name]:
    """What the folder holds, by seq; nothing if there is no folder."""
    if not folder.is_dir():
        return []
    matches = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted((Name(int(m[1]), int(m[2])) for m in matches if m), key=lambda name: name.from_seq)


def write_lines(path: Path, values: Iterable[Json]) -> None:
    """Write JSON lines, gzipped, and make file and name durable; the file appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
            for value in values:
                line = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
                packed.write(line.encode("utf-8") + b"\n")
        raw.flush()
        os.fsync(raw.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> Iterator[Json]:
    """The values of a file; raises ArchiveDamagedError where it cannot be read."""
    try:
        with gzip.open(path, "rb") as packed:
            while line := packed.readline(LINE_BYTES_MAX):
                yield json.loads(line)
    except (OSError, EOFError, zlib.error, ValueError) as exc:
        raise ArchiveDamagedError(path, type(exc).__name__) from exc


def entry_line(seq: int, head: bytes, body: bytes, hash_: bytes) -> Json:
    """The form of an entry in a file."""
    return {"seq": seq, "head": base64.b64encode(head).decode(), "body": body.decode("utf-8"), "hash": hash_.hex()}


def read_entries(path: Path) -> Iterator[ArchivedEntry]:
    """The entries of a `.journal` file as they stand there; nothing of the chain is checked here."""
    for value in read_lines(path):
        try:
            yield ArchivedEntry(
                int(value["seq"]),
                base64.b64decode(value["head"], validate=True),
                value["body"].encode("utf-8"),
                bytes.fromhex(value["hash"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as exc:
            raise ArchiveDamagedError(path, "a line is not an entry") from exc


def document_line(document: Document) -> Json:
    """The form of a document in a file."""
    return {
        "id": document.id.hex(),
        "class": document.klass,
        "salt": base64.b64encode(document.salt).decode(),
        "content": base64.b64encode(document.content).decode(),
        "keep_until": document.keep_until,
        "law": document.law,
    }


def read_documents(path: Path) -> Iterator[tuple[bytes, Document | None]]:
    """(id, document) of a `.documents` file; None for an erased one. A file that is not there holds nothing."""
    if not path.exists():
        return
    for value in read_lines(path):
        try:
            id_ = bytes.fromhex(value["id"])
            if value.get("erased"):
                yield id_, None
                continue
            salt, content = base64.b64decode(value["salt"]), base64.b64decode(value["content"])
            yield id_, Document(id_, value["class"], salt, content, value["keep_until"], value["law"])
        except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as exc:
            raise ArchiveDamagedError(path, "a line is not a document") from exc


def document_digests(path: Path) -> dict[bytes, bytes | None]:
    """Digest by id; None for an erased document."""
    return {
        id_: None if found is None else hashlib.sha256(DOCUMENT_DOMAIN + found.salt + found.content).digest()
        for id_, found in read_documents(path)
    }


def sha256_of(path: Path) -> bytes:
    """Digest of a file as it is on disk."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(COPY_BYTES):
            digest.update(block)
    return digest.digest()


def sha256_unpacked(path: Path) -> bytes:
    """Digest of what a gzip file holds."""
    digest = hashlib.sha256()
    try:
        with gzip.open(path, "rb") as packed:
            while block := packed.read(COPY_BYTES):
                digest.update(block)
    except (OSError, EOFError, zlib.error) as exc:
        raise ArchiveDamagedError(path, type(exc).__name__) from exc
    return digest.digest()


def forget(folder: Path, document_ids: frozenset[bytes]) -> int:
    """Rewrite the `.documents` files without these; returns how many were removed. Their entries stay as they are."""
    removed = 0
    for name in names(folder):
        path = folder / name.documents
        found = list(read_documents(path))
        hits = sum(1 for id_, document in found if id_ in document_ids and document is not None)
        if hits:
            write_lines(
                path,
                (
                    {"id": id_.hex(), "erased": True}
                    if document is None or id_ in document_ids
                    else document_line(document)
                    for id_, document in found
                ),
            )
            removed += hits
    return removed
