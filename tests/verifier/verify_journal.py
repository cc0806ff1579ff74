"""Verify a journal, from docs/reference/journal.md alone. Usage: this HUB.DB [ARCHIVE_DIR] | ARCHIVE_DIR"""

import base64
import gzip
import hashlib
import json
import re
import sqlite3
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

ACTOR = r"hub|(device|staff):[A-Za-z0-9_.-]{1,64}|cloud:[0-9a-f]{32}:[1-9][0-9]{0,19}"
REASONS, NOTHING = ("new", "restored", "stale", "fork", "replaced"), cast(Any, (None, None, 0))
DOMAIN = b"hubd.doc.v1\0"
Find = Callable[[bytes], Any]


def need(condition: object, why: str = "") -> None:
    if not condition:
        raise ValueError(why)


def read_head(raw: bytes) -> dict[str, Any]:
    rest = memoryview(raw)

    def take(count: int) -> bytes:
        nonlocal rest
        need(count <= len(rest), "the head is too short")
        taken, rest = bytes(rest[:count]), rest[count:]
        return taken

    if take(1 if raw else 0) != b"\x01":
        raise NotImplementedError
    head: dict[str, Any] = {"line": take(16), "seq": int.from_bytes(take(8), "big")}
    need(take(8) and take(1)[0] in (0, 1), "clock")
    head["kind"] = take(take(16 + 8 + 1)[-1]).decode()
    need(re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", head["kind"]) and len(head["kind"]) <= 64, "kind")
    head["subject"] = take(take(2 + 1)[-1]).decode()
    need(re.fullmatch(ACTOR, take(take(1)[0]).decode()), "actor")
    need(take(1)[0] < 8, "flags")
    head["documents"] = [(take(16), take(32)) for _ in range(take(1)[0])]
    need(not rest, "the head is too long")
    return head


def read_body(raw: bytes) -> dict[str, Any]:
    def integer(text: str) -> int:
        need(len(text) <= 17 and text.lstrip("-").isdigit() and abs(int(text)) < 2**53, "number")
        return int(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(pairs)) == len(pairs), "a key stands twice")
        return dict(pairs)

    def depth(value: Any) -> int:
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inside is None else 1 + max(map(depth, inside), default=0)

    need(len(raw) <= 65536 and raw[:1] + raw[-1:] == b"{}", "body")
    decode = json.JSONDecoder(object_pairs_hook=unique, parse_float=integer, parse_constant=integer, parse_int=integer)
    body: dict[str, Any] = decode.decode(raw.decode())
    need(depth(body) <= 64, "depth")
    return body


def check_opening(body: dict[str, Any], seq: int, previous: bytes, line: bytes) -> None:
    need(re.fullmatch("[0-9a-f]*:[0-9a-f]*", ":".join((body["hub_id"], body["public_key"]))), "hub_id or public_key")
    need(isinstance(body["number_series"], list) and body["reason"] in REASONS, "series or reason")
    parent = body["parent"]
    need((parent is None) == (seq == 1), "parent")
    if parent is not None:
        need(parent["seq"] == seq - 1 and parent["hash"] == previous.hex(), "parent")
        need(re.fullmatch(line.hex() or "[0-9a-f]*", parent["line"]), "line of the parent")


def verify(rows: Iterable[Any], seq: int, previous: bytes, find: Find, proofs: Iterable[Any] = ()) -> dict[str, Any]:
    documents = {"good": 0, "absent": 0, "erased": 0, "wrong": 0}
    out: dict[str, Any] = {"not_seen_upto": seq, "documents": documents, "first_bad_seq": None, "newer_format": False}
    line, begin, lines, at = b"", seq, dict[str, list[Any]](), {seq: (b"", previous)}
    try:
        for place, raw_head, raw_body, digest, *copies in rows:
            need(place == seq + 1 and len(digest) == 32, "seq")
            head, body = read_head(raw_head), read_body(raw_body)
            if head["kind"] == "line.opened":
                need(head["line"].hex() not in lines, "a line again")
                check_opening(body, place, previous, line)
            need(head["kind"] == "line.opened" or head["line"] == line or (not line and place > 1), "line")
            sized = b"".join(len(part).to_bytes(4, "big") + part for part in (raw_head, raw_body))
            need(hashlib.sha256(b"hubd.entry.v1\0" + previous + sized).digest() == digest, "hash")
            need(head["seq"] == place and copies in ([], [head["kind"], head["subject"]]), "seq in head, or copies")
            line, seq, previous, at[place] = head["line"], place, digest, (head["line"], digest)
            lines[line.hex()] = [*lines.get(line.hex(), [place])[:1], place, digest.hex()]
            for id_, expected in head["documents"]:
                salt, content, erased = find(id_) or NOTHING
                whole = salt is not None and content is not None and not erased
                good = whole and len(salt) == 32 and hashlib.sha256(DOMAIN + salt + content).digest() == expected
                documents["good" if good else "wrong" if whole else "erased" if erased else "absent"] += 1
    except NotImplementedError:
        out |= {"first_bad_seq": seq + 1, "newer_format": True}
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError, OSError, EOFError, zlib.error) as error:
        out |= {"first_bad_seq": seq + 1, "why": str(error)}
    seen = [(s, h.hex(), at[s] in ((li, h), (b"", h))) for li, s, h in sorted(proofs, key=lambda p: p[1]) if s in at]
    out["proof"] = next(([s, h] for s, h, matches in reversed(seen) if matches), None)
    out["proofs_mismatched"] = bad = [s for s, _, matches in seen if not matches]
    out["ok"] = not (out["first_bad_seq"] or documents["wrong"] or bad)
    return out | {"entries": seq - begin, "lines": [[k, *v] for k, v in lines.items()], "head": [seq, previous.hex()]}


def lines_of(file: Path) -> Iterator[Any]:
    with gzip.open(file) as lines:
        yield from map(json.loads, lines)


def verify_archive(folder: str, upto: int = 2**63, otherwise: Find = lambda _: None) -> dict[str, Any]:
    here: dict[str, Any] = {}

    def rows() -> Iterator[Any]:
        for file in sorted(f for f in Path(folder).glob("*.journal.jsonl.gz") if int(f.name[:12]) <= upto):
            beside = file.with_name(file.name.replace(".journal.", ".documents."))
            here.clear()
            for d in lines_of(beside) if beside.exists() else ():
                salt, content = (None if d.get("erased") else base64.b64decode(d[name]) for name in ("salt", "content"))
                here[d["id"]] = (salt, content, int(d.get("erased", 0)))
            for e in lines_of(file):
                yield e["seq"], base64.b64decode(e["head"], validate=True), e["body"].encode(), bytes.fromhex(e["hash"])

    return verify(rows(), 0, bytes(32), lambda id_: here.get(id_.hex()) or otherwise(id_))


def verify_database(path: str, archive: str = "") -> dict[str, Any]:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    find: Find = lambda id_: db.execute("SELECT salt, content, erased FROM documents WHERE id = ?", (id_,)).fetchone()  # noqa: E731 - one line is clearer here
    upto, cut = db.execute("SELECT upto_seq, upto_hash FROM journal_cut").fetchone()
    rows = db.execute("SELECT seq, head, body, hash, kind, subject FROM journal WHERE seq > ? ORDER BY seq", (upto,))
    out = verify(rows, upto, cut, find, db.execute("SELECT line, seq, hash FROM proofs").fetchall())
    if archive and upto:
        out["archive"] = verify_archive(archive, upto, find)
        out["ok"] &= out["archive"]["ok"] and out["archive"]["head"] == [upto, cut.hex()]
    db.close()
    return out


if __name__ == "__main__":
    report = verify_archive(sys.argv[1]) if Path(sys.argv[1]).is_dir() else verify_database(*sys.argv[1:3])
    print(json.dumps(report, indent=1))
    sys.exit(not report["ok"])
