"""Which disk a directory lies on, from what the kernel tells: partitions, volumes, shares, memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd.store.disks import is_another_disk

pytestmark = pytest.mark.blocking_allowed(
    "it lays out what the kernel would show; hubctl and the hub's threads read it"
)

ON_DISK = Path(__file__).parent
"""What is no memory, wherever the directories of tests are made."""
MOUNTS = """\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 8:1 / /boot rw - vfat /dev/sda1 rw
24 22 253:0 / /var rw - ext4 /dev/mapper/vg-var rw
25 22 253:1 / /srv rw - ext4 /dev/mapper/vg-srv rw
26 22 8:17 / /media/STICK rw - vfat /dev/sdb1 rw
27 22 8:17 / /media/MY\\040STICK rw - vfat /dev/sdb1 rw
28 22 0:40 / /tmp rw - tmpfs tmpfs rw
29 22 0:41 / /mnt/nas rw - nfs4 nas:/export rw
30 22 0:42 / /mnt/nas/local rw - overlay overlay rw
31 22 8:33 / /media rw - ext4 /dev/sdc1 rw
32 31 8:17 / /media/STICK rw - vfat /dev/sdb1 rw
"""


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """sda with root, boot and an encrypted volume on its third partition; sdb a stick; sdc another disk with /srv."""
    sys, mounts = tmp_path / "sys", tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    block = sys / "dev" / "block"
    block.mkdir(parents=True)
    for disk, parts in {"sda": ("8:1", "8:2", "8:3"), "sdb": ("8:17",), "sdc": ("8:33",)}.items():
        for number, device in enumerate(parts, 1):
            part = sys / "devices" / disk / f"{disk}{number}"
            part.mkdir(parents=True)
            (part / "partition").write_text(f"{number}\n")
            (block / device).symlink_to(part)
    for name, device, below in (("dm-0", "253:0", "sda/sda3"), ("dm-1", "253:1", "sdc/sdc1"), ("dm-2", "", "dm-0")):
        volume = sys / "devices" / name
        (volume / "slaves").mkdir(parents=True)
        (volume / "slaves" / below.rpartition("/")[2]).symlink_to(sys / "devices" / below)
        if device:
            (block / device).symlink_to(volume)
    return sys, mounts


@pytest.mark.parametrize(
    ("folder", "home", "another"),
    [
        ("/var/backups", "/var/lib/hubd", False),
        ("/boot", "/var/lib/hubd", False),  # another partition, another number, the same disk
        ("/usr/share", "/var/lib/hubd", False),  # the encrypted volume lies on the root's disk
        ("/srv", "/var/lib/hubd", True),
        ("/media/STICK/hubd", "/var/lib/hubd", True),
        ("/media/MY STICK", "/var/lib/hubd", True),
        ("/media/MY STICK", "/media/STICK", False),
        ("/media", "/srv", False),
        ("/tmp/backups", "/var/lib/hubd", False),  # gone with the power
        ("/mnt/nas/hubd", "/var/lib/hubd", True),
        ("/mnt/nas/hubd", "/mnt/nas", False),
    ],
)
def test_it_is_the_disk_that_counts_not_the_number(
    machine: tuple[Path, Path], folder: str, home: str, another: bool
) -> None:
    sys, mounts = machine
    assert is_another_disk(Path(folder), Path(home), sys=sys, mounts=mounts) is another


def test_without_the_kernels_word_the_number_decides(tmp_path: Path) -> None:
    nowhere = tmp_path / "nothing"
    assert not is_another_disk(tmp_path, tmp_path.parent, sys=nowhere, mounts=nowhere)
    assert is_another_disk(Path("/dev/shm"), ON_DISK, sys=nowhere, mounts=nowhere)


def test_this_machines_memory_is_no_place_for_a_backup(tmp_path: Path) -> None:
    assert not is_another_disk(Path("/dev/shm"), ON_DISK)
    assert not is_another_disk(tmp_path, tmp_path.parent)
