"""A program that commits rows for ever and acknowledges each: `sqlite_writer.py DATABASE FULL|NORMAL|OFF SEED`.

It prints `NUMBER STAMP` after each commit, STAMP being CLOCK_MONOTONIC. It knows nothing of the hub: it is
the power-cut rig's own control, by which the rig shows that it can tell a durable writer from one that is not.
"""

import os
import random  # noqa: TID251 - seeded by the test
import sqlite3
import sys
import time


def main(path: str, synchronous: str, seed: str) -> None:
    """Commit one row after the other until killed."""
    rng = random.Random(int(seed))
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={synchronous}")
    # Checkpoints too must meet the cut, so they come often.
    db.execute("PRAGMA wal_autocheckpoint=50")
    db.execute("CREATE TABLE IF NOT EXISTS paid (number INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    number = db.execute("SELECT coalesce(max(number), 0) FROM paid").fetchone()[0]
    while True:
        number += 1
        db.execute("INSERT INTO paid VALUES (?, ?)", (number, rng.randbytes(rng.randrange(50, 2000))))
        os.write(1, f"{number} {time.monotonic():.9f}\n".encode())  # noqa: TID251 - the rig compares stamps


if __name__ == "__main__":
    main(*sys.argv[1:4])
