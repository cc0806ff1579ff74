"""What the virtual machine is made of. A snapshot starts only on the very hardware that it was taken on."""

from __future__ import annotations

from pathlib import Path

from tests.rigs.process import require_tool

DISK = "disk.qcow2"
DUMMY_PORTS = 6
"""How many gadgets can be plugged in at once."""
MEMORY_MB = 768
KERNEL_LINE = (
    "root=/dev/vda rw console=ttyS0 quiet loglevel=4 systemd.show_status=0 mitigations=off nokaslr audit=0 apparmor=0"
    " tsc=reliable no_timer_check random.trust_cpu=on"
)


def hardware(image: Path, disk: Path, agent: Path, monitor: Path, console: Path) -> list[str | Path]:
    """QEMU's command line: its kernel and initrd, a disk, sockets of the agent and the monitor, a file for the console.

    A plain 64-bit CPU and two of them, each in a thread, are the quickest without hardware help.
    """
    argv: list[str | Path] = [require_tool("qemu-system-x86_64", "qemu-system-x86"), "-nodefaults", "-no-user-config"]
    argv += ["-display", "none", "-no-reboot", "-machine", "q35,usb=off", "-accel", "tcg,thread=multi"]
    argv += ["-cpu", "qemu64", "-smp", "2", "-m", str(MEMORY_MB)]
    argv += ["-kernel", image / "kernel", "-initrd", image / "initrd.gz", "-append", KERNEL_LINE]
    argv += ["-drive", f"file={disk},if=none,id=disk,format=qcow2,cache=unsafe"]
    argv += ["-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci", "-device", "qemu-xhci,id=xhci"]
    argv += ["-device", "virtio-serial-pci", "-chardev", f"socket,path={agent},server=on,wait=off,id=agent"]
    argv += ["-device", "virtserialport,chardev=agent,name=hubd.rig"]
    return [*argv, "-qmp", f"unix:{monitor},server=on,wait=off", "-serial", f"file:{console}"]
