"""A tenant's key for backups: `python -m sync.cloud.tenant_key PRIVATE PUBLIC` writes both halves, once.

The private half opens every backup of the tenant's hubs (`hubctl restore --key-file PRIVATE`): keep it off hubs and
clouds. The public half is what the cloud gets (`python -m sync.cloud --backup-key PUBLIC`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hubd.runtime import SystemIds

KEY_BYTES = 32


def make_tenant_key(private: Path, public: Path) -> str:
    """Write a new key pair in hexadecimal, the private half for its owner alone; returns the public one.

    Raises FileExistsError rather than replace a key that may be the only one to open some backup.
    """
    key = X25519PrivateKey.from_private_bytes(SystemIds().token_bytes(KEY_BYTES))
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.private_bytes_raw().hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    text = key.public_key().public_bytes_raw().hex()
    public.write_text(text + "\n", "ascii")
    return text


def main() -> None:
    """Make a pair and print the public half."""
    parser = argparse.ArgumentParser(prog="python -m sync.cloud.tenant_key", description=__doc__)
    parser.add_argument("private", type=Path)
    parser.add_argument("public", type=Path)
    arguments = parser.parse_args()
    try:
        print(make_tenant_key(arguments.private, arguments.public))
    except FileExistsError:
        parser.error(f"{arguments.private} is there already and may be needed for a backup; name another file")


if __name__ == "__main__":
    main()
