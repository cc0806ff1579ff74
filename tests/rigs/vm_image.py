"""The image of the virtual machine: built once for all that it is made of, booted once, and kept as a snapshot.

Kept below `.cache/vm` under a hash of the build script, the rig's files in the guest, the hub's locked dependencies,
this machine's release and QEMU's version. The hub's own code is no part of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from tests.rigs.process import RigError, require_tool, run
from tests.rigs.staged import REPOSITORY
from tests.rigs.vm import VirtualMachine
from tests.rigs.vm_hardware import DISK, DUMMY_PORTS

CACHE = REPOSITORY / ".cache" / "vm"
SCRIPT = Path(__file__).with_name("vm_image.sh")
MADE_OF = (
    SCRIPT,
    Path(__file__),
    *(Path(__file__).with_name(name) for name in ("vm_hardware.py", "vm_agent.py", "vm_gadget.py")),
    REPOSITORY / "requirements" / "run.txt",
    Path("/etc/os-release"),
)
BUILD_TIMEOUT_S = 600.0
BOOT_TIMEOUT_S = 180.0
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "mke2fs": "e2fsprogs",
}
# Device drivers of both sides, so that a plug in a test waits for no module. The dummy controllers give one port each.
MODULES = (
    f"modprobe dummy_hcd num={DUMMY_PORTS} && modprobe -a libcomposite usb_f_acm usb_f_printer usb_f_hid"
    " usbserial ftdi_sio cdc_acm usblp usbhid hid_generic evdev && mount -t configfs none /sys/kernel/config || "
    "mountpoint -q /sys/kernel/config"
)


def image() -> Path:
    """The directory with kernel, initrd, root and snapshot; builds them (about a minute) when they are not there."""
    if os.geteuid() != 0:
        raise RigError("the image of the virtual machine is built by root (mmdebstrap, chroot)")
    for tool, package in TOOLS.items():
        require_tool(tool, package)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place = CACHE / _content_hash()
        if not place.is_dir():
            for old in CACHE.iterdir():  # of other contents, or half built
                if old.is_dir():
                    shutil.rmtree(old)
            _build(place)
    return place


def _content_hash() -> str:
    made_of = hashlib.sha256(run("qemu-system-x86_64", "--version").stdout.encode())
    for path in MADE_OF:
        made_of.update(path.read_bytes())
    return made_of.hexdigest()[:16]


def _build(place: Path) -> None:
    half = Path(tempfile.mkdtemp(prefix="half-", dir=CACHE))
    half.chmod(0o755)
    run("bash", SCRIPT, half, timeout_s=BUILD_TIMEOUT_S)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "root.ext4", "-F", "raw", half / DISK)
    with VirtualMachine(half, fresh=True) as machine:
        machine.wait_for_agent(BOOT_TIMEOUT_S)
        machine.sh(MODULES)
        machine.sh("systemctl is-system-running --wait && sync")
        machine.save(half / DISK)
    half.rename(place)
