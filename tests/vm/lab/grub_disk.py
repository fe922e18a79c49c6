"""A disk with a Debian that GRUB starts, and a machine in which that Debian is entered before it starts by itself."""

import shutil
import subprocess
from pathlib import Path

from . import binaries, packages
from .boot import CPU, QUIRKS
from .cache import cached
from .console_machine import ConsoleMachine, initramfs, with_dependencies
from .initramfs import BUSYBOX
from .paths import PROJECT
from .server import ServerFailed
from .shell import run, run_with_retries, write

SUITE = "bookworm"
PACKAGES = "initramfs-tools,zstd,cpio,kmod,binutils,grub2-common,grub-pc-bin"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
MIB = 1024 * 1024
ROOT_MIB, BOOT_MIB, GAP_MIB = 1400, 200, 1
MEMORY_MIB = 768
MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "vfat", "nls_cp437", "nls_ascii")
OS_IS_UP = r"^lab: the OS is up$"
INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
echo "lab: the OS is up" >/dev/console
exec /bin/busybox sleep 1000000
"""


def _tree():
    packages.install("debootstrap", "fdisk", "mtools", "dosfstools")

    def make(folder):
        run_with_retries("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, folder / "tree")
        shutil.rmtree(folder / "tree/var/cache/apt", ignore_errors=True)

    return cached("grub-debian", [SUITE, PACKAGES], make) / "tree"


def make_debian(lab, stage, files=None):
    """A Debian in the folder `stage` with firmcast, its kernel and its recovery image, which a VM would take minutes to make.
    `files` are more of it (place -> text)."""
    run("cp", "-a", _tree(), stage)
    _fill(stage, lab.kernel)
    for place, text in (files or {}).items():
        write(stage / place, text).chmod(0o600)
    status, said = enter(stage, "firmcast-mkrecovery --all")
    lab.check("the recovery image is made", status == 0, said)


def enter(stage, command):
    """Runs a shell command in the Debian in the folder `stage`, which sees no disk: (status, what it said)."""
    root = 'mount --bind "$0" "$0" && cd "$0" && mount --rbind /dev dev && mount -t proc proc proc && mount --rbind /sys sys'
    inside = f"env -i PATH={PATH} LC_ALL=C chroot . sh -c"
    words = ["unshare", "--mount", "--net", "sh", "-c", f'{root} && {inside} "$1" 2>&1', stage, command]
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return result.returncode, result.stdout + result.stderr


def _fill(stage, kernel):
    modules = stage / "lib/modules" / kernel.version
    modules.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "-a", (kernel.root / "lib/modules" / kernel.version).resolve(), modules)
    (modules / "updates").mkdir()
    shutil.copy(kernel.module("second_bank"), modules / "updates")
    run("depmod", "-b", stage, kernel.version)
    for name in ("vmlinuz", "config"):
        shutil.copy(kernel.root / f"boot/{name}-{kernel.version}", stage / "boot")
    # No initramfs counts that is made of them later: in a file system of mke2fs they have no fractions of seconds.
    run("find", modules, "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+")
    _make_os(stage / "boot" / f"initrd.img-{kernel.version}")
    shutil.copy(binaries.firmcastd(), stage / "usr/sbin/firmcastd")
    files = stage / "usr/share/firmcast/initramfs"
    files.mkdir(parents=True)
    for file in (PROJECT / "initramfs").iterdir():
        if file.is_file():
            shutil.copy(file, files)
    shutil.move(files / "firmcast-mkrecovery", stage / "usr/sbin")


def _make_os(file):
    """The normal OS: an initramfs that says that it is up."""
    tree = Path(f"{file}.tree")
    (tree / "bin").mkdir(parents=True)
    (tree / "dev").mkdir()
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    write(tree / "init", INIT).chmod(0o755)
    run("sh", "-c", 'find . | cpio --quiet -o -H newc -R 0:0 >"$0"', file, cwd=tree)
    shutil.rmtree(tree)


class GrubDisk:
    """The disk in `file`: partition 1 is /boot, as ext4 or vfat, or nothing's (`boot` is None); partition 2 is the root, with
    the Debian of `make_debian`."""

    def __init__(self, lab, file, boot=None, files=None):
        self.file = Path(file)
        self.boot = boot
        stage = Path(f"{file}.stage")
        make_debian(lab, stage, files)
        table = f"label: dos\nsize={BOOT_MIB}MiB\nsize={ROOT_MIB}MiB\n"
        with open(self.file, "wb") as disk:
            disk.truncate((BOOT_MIB + ROOT_MIB + 2 * GAP_MIB) * MIB)
        run("sfdisk", "-q", self.file, stdin=table)
        if boot:
            (stage / "boot").rename(f"{file}.boot")
            (stage / "boot").mkdir()
            self._put(Path(f"{file}.boot"), boot, GAP_MIB, BOOT_MIB)
        self._put(stage, "ext4", GAP_MIB + BOOT_MIB, ROOT_MIB)

    def _put(self, folder, kind, at_mib, size_mib):
        """A partition with what is in `folder`, which goes."""
        part = Path(f"{folder}.part")
        with open(part, "wb") as file:
            file.truncate(size_mib * MIB)
        if kind == "ext4":
            run("mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, part)
        else:
            run("mkfs.vfat", part)
            run("sh", "-c", 'mcopy -s -i "$0" "$1"/* ::', part, folder)
        run("dd", f"if={part}", f"of={self.file}", "bs=1M", f"seek={at_mib}", "conv=notrunc,sparse", "status=none")
        part.unlink()
        shutil.rmtree(folder)



class Workshop(ConsoleMachine):
    """A machine whose own OS mounts the disk of another one, and runs commands there."""

    def __init__(self, lab, disk):
        modules = with_dependencies(lab.kernel, *MODULES)
        system = initramfs("workshop", BUSYBOX, modules, {})
        command = [
            "qemu-system-x86_64", "-nodefaults", "-M", "q35,accel=tcg", "-cpu", CPU, "-m", MEMORY_MIB,
            "-drive", f"if=virtio,format=raw,file={disk.file}",
            "-kernel", lab.kernel.image, "-initrd", system, "-append", f"{QUIRKS} quiet panic=-1",
        ]  # fmt: skip
        super().__init__("workshop", command, lab.folder / f"{disk.file.name}.workshop")
        self._disk = disk

    def open(self):
        """Power on, and mounts the disk."""
        self.start()
        mounts = ["mkdir -p /m", "mount -t ext4 /dev/vda2 /m"]
        mounts += [f"mount -t {self._disk.boot} /dev/vda1 /m/boot"] if self._disk.boot else []
        mounts += ["mount --bind /dev /m/dev", "mount -t proc proc /m/proc", "mount -t sysfs sys /m/sys"]
        for line in mounts:
            self._must(line)

    def inside(self, line, timeout_s=300):
        """Runs a command in the Debian on the disk: (status, what it said)."""
        quoted = line.replace("'", "'\\''")
        return self.command(f"env -i PATH={PATH} LC_ALL=C chroot /m sh -c '{quoted}' 2>&1 </dev/null", timeout_s)

    def must(self, line, timeout_s=300):
        """Runs a command there that has to succeed; returns what it said."""
        status, said = self.inside(line, timeout_s)
        if status != 0:
            raise ServerFailed(f"`{line}` ended with status {status}: {said[-3000:]}")
        return said

    def close(self):
        """Unmounts the disk, and power off."""
        if self._disk.boot:
            self._must("umount /m/boot")
        self._must("umount /m/sys; umount /m/proc; umount /m/dev; umount /m && sync")
        self.power_cut()

    def _must(self, line):
        status, said = self.command(line)
        if status != 0:
            raise ServerFailed(f"`{line}` ended with status {status}: {said}")


def fat_disk(file, folder):
    """A disk without partitions, all of it FAT, with what is in `folder`."""
    with open(file, "wb") as disk:
        disk.truncate(BOOT_MIB * MIB)
    run("mkfs.vfat", file)
    run("sh", "-c", 'mcopy -s -i "$0" "$1"/* ::', file, folder)
