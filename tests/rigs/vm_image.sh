#!/usr/bin/env bash
# vm_image.sh DIRECTORY: builds a virtual machine of this machine's own Debian release in DIRECTORY, as root:
#   root.ext4   the guest's file system: systemd, udev, Python, the hub's dependencies and the rig's agent; no hub
#   kernel      Debian's kernel, unpacked from its package (uncompressed where that can be done: it boots faster)
#   initrd.gz   busybox and the few modules that find the disk
# Called by tests/rigs/vm_image.py. Debian's packages come by apt with this machine's sources, wheels by its pip.
set -euo pipefail
work=${1:?usage: vm_image.sh DIRECTORY}
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
cd "$work"
umask 022
export DEBIAN_FRONTEND=noninteractive

release=$(. /etc/os-release && echo "$VERSION_CODENAME")
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
  if [ -s "$file" ]; then sources+=("$file"); fi
done
packages=systemd-sysv,udev,dbus,kmod,tzdata,python3,libusb-1.0-0,libudev1
# What the initrd needs to find its disk; the rest is loaded once, before the snapshot (vm_image.py).
disk_modules="virtio_pci virtio_blk ext4"

make_root() {
  local without=()
  for place in man doc locale info; do without+=(--dpkgopt="path-exclude=/usr/share/$place/*"); done
  mmdebstrap --quiet --mode=root --format=directory --variant=essential --include="$packages" "${without[@]}" \
    --dpkgopt=force-unsafe-io "$release" root "${sources[@]}"
}

fetch_kernel() {
  local name
  name=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: *//p;T;q')
  apt-get download -qq -o APT::Sandbox::User=root "$name"
  mkdir -p kernel-root
  # Sound, network cards and pictures are no work of this machine.
  dpkg-deb --fsys-tarfile linux-image-*.deb | tar -C kernel-root -xf - --exclude='./usr/share/*' \
    --exclude='*/kernel/sound/*' --exclude='*/kernel/drivers/net/*' --exclude='*/kernel/drivers/gpu/*' \
    --exclude='*/kernel/drivers/media/*' --exclude='*/kernel/drivers/infiniband/*' --exclude='*/kernel/drivers/staging/*'
}

fetch_dependencies() {
  # By the distribution's Python, which is the guest's as well: compiled wheels and byte code fit it.
  /usr/bin/python3 -m venv venv
  venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
    --requirement "$repository/requirements/run.txt"
}

make_root > root.log 2>&1 & roots=$!
fetch_kernel > kernel.log 2>&1 & kernels=$!
fetch_dependencies > dependencies.log 2>&1 & dependencies=$!
wait "$kernels" || { cat kernel.log >&2; exit 1; }
wait "$dependencies" || { cat dependencies.log >&2; exit 1; }
wait "$roots" || { cat root.log >&2; exit 1; }

# -- one root ----------------------------------------------------------------------------------------------------------
cp -a --no-preserve=ownership kernel-root/lib/modules root/usr/lib/
version=$(ls root/usr/lib/modules)
chroot root depmod "$version"
mkdir -p root/opt/hubd root/opt/rig
cp -a --no-preserve=ownership venv/lib root/opt/hubd/
install -m 0644 "$here/vm_agent.py" "$here/vm_gadget.py" root/opt/rig/
# The virtual environment as the guest sees it; the hub's own packages are added to it by each test run.
mkdir -p root/opt/hubd/bin
ln -s /usr/bin/python3 root/opt/hubd/bin/python
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' > root/opt/hubd/pyvenv.cfg
echo hub > root/etc/hostname
echo '/dev/vda / ext4 rw,noatime 0 0' > root/etc/fstab
echo 0123456789abcdef0123456789abcdef > root/etc/machine-id
# The console is the kernel's: a panic is seen by the test. Nothing that runs by a clock disturbs it.
units=root/etc/systemd/system
for unit in getty@tty1.service serial-getty@ttyS0.service systemd-timesyncd.service systemd-pstore.service \
  systemd-update-utmp.service systemd-random-seed.service ldconfig.service systemd-binfmt.service fstrim.timer \
  e2scrub_all.timer e2scrub_reap.service dpkg-db-backup.timer apt-daily.timer apt-daily-upgrade.timer \
  dev-hugepages.mount dev-mqueue.mount sys-kernel-tracing.mount; do
  ln -sf /dev/null "$units/$unit"
done
ln -sf /lib/systemd/system/multi-user.target "$units/default.target"
cat > "$units/rig-agent.service" <<'END'
[Unit]
Description=Obeys the test on the host, over a virtio port
[Service]
ExecStart=/usr/bin/python3 /opt/rig/vm_agent.py
[Install]
WantedBy=multi-user.target
END
mkdir -p "$units/multi-user.target.wants"
ln -sf ../rig-agent.service "$units/multi-user.target.wants/"

# -- kernel and initrd -------------------------------------------------------------------------------------------------
/usr/bin/python3 - kernel-root/boot/vmlinuz-* kernel <<'END'
import lzma
import sys

packed = open(sys.argv[1], "rb").read()
start = packed.find(b"\xfd7zXZ\x00")
with open(sys.argv[2], "wb") as kernel:
    # Debian 12 packs by xz. Another packing starts as it is, which takes some seconds more.
    kernel.write(lzma.LZMADecompressor().decompress(packed[start:]) if start >= 0 else packed)
END
mkdir -p initrd/bin initrd/modules initrd/proc initrd/dev initrd/new
install "$(command -v busybox)" initrd/bin/busybox
for module in $disk_modules; do
  chroot root modprobe -S "$version" --show-depends "$module" | awk '$1 == "insmod" {print $2}'
done | awk '!seen[$0]++' | while read -r path; do
  name=$(basename "$path" .xz)
  if [ "$path" = "${path%.xz}" ]; then cp "root$path" "initrd/modules/$name"; else xz -dc "root$path" > "initrd/modules/$name"; fi
  echo "$name" >> initrd/order
done
cat > initrd/init <<'END'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "/modules/$module"; done < /order
while [ ! -b /dev/vda ]; do /bin/busybox usleep 20000; done
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /new
/bin/busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /lib/systemd/systemd
END
chmod +x initrd/init
(cd initrd && find . | cpio -o -H newc --quiet) | gzip -1 > initrd.gz

mke2fs -q -t ext4 -E lazy_itable_init=1 -d root root.ext4 1500M
rm -rf root kernel-root initrd venv linux-image-*.deb ./*.log
