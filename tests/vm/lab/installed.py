"""A Debian as an administrator installs it, with a packaged kernel and the distribution's own initramfs, for packages to be
installed in while it runs."""

import re
import shutil
from pathlib import Path

from . import debian, packages
from . import kernel as kernels
from .boot import QUIRKS, Boot
from .cache import cached
from .distribution import run_inside
from .initramfs import SERVER_OS
from .network import MANAGER_ADDRESS, SUBNET_BITS
from .paths import PROJECT
from .server import Machine, Server
from .shell import run, run_with_retries, write

SUITE = "bookworm"
# What firmcast's packages depend on is there, so that apt needs no network inside; eatmydata spares waits for the disk.
PACKAGES = (
    "systemd,systemd-sysv,dbus,udev,kmod,iproute2,procps,cpio,zstd,linux-base,apparmor,needrestart,eatmydata,"
    "apt-utils"
)
TOOLS = {"mkinitramfs": "initramfs-tools", "dracut": "dracut"}
# Drivers of the machine's root disk.
DRIVERS = ("virtio_pci", "virtio_blk", "ext4")
# Modules of the kernel's package that stay in it, with what they need, besides those of the lab's light OS.
MODULES = "physmap autofs4 loop efivarfs qemu_fw_cfg efi_pstore nls_ascii vfat spi_nor spi_intel_pci"
DISK_BYTES = 3 * 1024 * 1024 * 1024
MEMORY_MIB = 1024
# A version behind that of today, with all the signs that a version may have.
HIGHER = "9+new~1-0"
OS_WORDS = f"{QUIRKS} panic=30 root=/dev/vda rw"
# The packages under test, and their places on the machine.
BUILT = PROJECT / "target/packages"
BOOTED = ("vmlinuz", "initrd.img")
AT_HAND = Path("root/packages")


def kernel_package(kernel):
    """The distribution's package of `kernel`, with the lab's driver of the chip in it as DKMS would put it beside, not
    compressed and without most drivers: it is installed under emulation."""
    name = f"linux-image-{kernel.version}"
    version = packages.versions(name)[0]
    own = kernel.module("bios_flash")

    def make(folder):
        run_with_retries("apt-get", "download", f"{name}={version}", cwd=folder, env=packages.APT_ENVIRONMENT)
        (original,) = folder.glob("*.deb")
        tree = folder / "tree"
        run("dpkg-deb", "-R", original, tree)
        original.unlink()
        slim(tree / "lib/modules" / kernel.version, kernel)
        updates = tree / "lib/modules" / kernel.version / "updates"
        updates.mkdir()
        shutil.copy(own, updates)
        (tree / "DEBIAN/md5sums").unlink(missing_ok=True)
        run("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, folder / f"{name}.deb")
        shutil.rmtree(tree)

    return cached(f"package-{kernel.version}", [version, own, MODULES], make) / f"{name}.deb"


def slim(folder, kernel):
    """Leaves only the modules in `folder` that the lab needs."""
    names = (SERVER_OS / "modules").read_text().split() + (SERVER_OS / "modules-at-hand").read_text().split() + MODULES.split()
    names += run("modinfo", "-F", "depends", kernel.module("bios_flash")).strip().split(",")
    keep = set()
    for name in names:
        found = run("sh", "-c", f"modprobe -d {kernel.root} -S {kernel.version} --show-depends {name} || true")
        keep.update(line.split()[1].split(f"/{kernel.version}/", 1)[1] for line in found.splitlines() if line.startswith("insmod "))
    for file in folder.rglob("*.ko*"):
        if str(file.relative_to(folder)) not in keep:
            file.unlink()


def configuration(tool, drivers):
    """What an administrator sets who wants a small initramfs with these drivers."""
    names = " ".join(drivers)
    if tool == "mkinitramfs":
        return {
            "etc/initramfs-tools/conf.d/lab": "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n",
            "etc/initramfs-tools/modules": "".join(f"{name}\n" for name in drivers),
        }
    return {
        "etc/dracut.conf.d/lab.conf": f'hostonly="no"\ndrivers=" {names} "\nforce_drivers=" {names} "\n'
        'filesystems="ext4"\ncompress="zstd -1"\n'
        'omit_dracutmodules+=" plymouth lvm dm mdraid crypt multipath btrfs nfs iscsi i18n network systemd-networkd "\n'
    }


def base(tool):
    """The tree of a Debian with `tool`, without a kernel."""
    packages.install("debootstrap")
    include = f"{PACKAGES},{TOOLS[tool]}"

    def make(folder):
        run_with_retries("debootstrap", "--variant=minbase", f"--include={include}", SUITE, folder / "tree")
        shutil.rmtree(folder / "tree/var/cache/apt", ignore_errors=True)
        shutil.rmtree(folder / "tree/var/lib/apt/lists", ignore_errors=True)

    return cached(f"installed-base-{tool}", [SUITE, include], make) / "tree"


def tree(kernel, tool):
    """The tree of a Debian with `kernel` and the initramfs that `tool` made for it, and without firmcast."""
    package, below = kernel_package(kernel), base(tool)

    def make(folder):
        place = folder / "tree"
        run("cp", "-a", below, place)
        for name, text in configuration(tool, DRIVERS).items():
            write(place / name, text)
        write(place / "etc/dpkg/dpkg.cfg.d/lab", "force-unsafe-io\n")
        write(place / "etc/fstab", "/dev/vda / ext4 defaults 0 1\n")
        shutil.copy(debian.FILES / "lab-control", place / "usr/local/sbin")
        shutil.copy(debian.FILES / "lab-control.service", place / "etc/systemd/system")
        shutil.copy(package, place / "root/kernel.deb")
        write(place / "root/prepare", PREPARE).chmod(0o755)
        run_inside(place, "/root/prepare")
        for file in ("root/prepare", "root/kernel.deb"):
            (place / file).unlink()

    parts = [below.parent.name, package, debian.FILES, configuration(tool, DRIVERS), PREPARE]
    return cached(f"installed-{tool}", parts, make) / "tree"


PREPARE = """\
#!/bin/sh
set -e
export DEBIAN_FRONTEND=noninteractive
dpkg -i /root/kernel.deb
systemctl enable lab-control.service systemd-networkd.service
systemctl disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service
systemctl mask serial-getty@ttyS0.service getty@tty1.service
passwd -d root
"""


def other_kernel():
    """Another kernel that the distribution packages, with drivers for flash chips."""
    return kernels.prepare("linux-image-6.12-amd64")


def built(name):
    """The newest package `name` that `make packages` wrote."""
    found = sorted(BUILT.glob(f"{name}_*.deb"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise packages.LabCannotRun(f"there is no package {name} in {BUILT}: run make packages")
    return found[-1]


class BankedServer(Server):
    """A server with a second flash chip, and with what it starts lying on its disk: it boots what it made for itself."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.bank = Path(f"{self.flash}.bank")

    def tend(self):
        """This machine may switch itself off."""
        if self._process is not None and self._process.poll() == 0:
            self._process = None
        super().tend()

    def _storage(self):
        return [*super()._storage(), "-drive", f"if=pflash,unit=1,format=raw,file={self.bank}"]


def add(lab, tool, *files):
    """A server with a Debian of its own, switched off; these files lie in its /root/packages."""
    return _add(lab, tool, files, Server, lambda server, stage: server.insert_flash(lab.firmware.ovmf_old))


def add_with_banks(lab, tool, *files):
    """The same, but it starts from its first chip (SeaBIOS, which starts Linux soonest), and the second holds firmware, too.
    The driver of that chip is loaded by its name, in the initramfs as well."""

    def prepare(server, stage):
        server.insert_flash(lab.firmware.seabios)
        shutil.copyfile(lab.firmware.ovmf_old, server.bank)
        updates = stage / "lib/modules" / lab.kernel.version / "updates"
        (updates / "bios_flash.ko").unlink()
        shutil.copy(lab.kernel.module("second_bank"), updates)
        run("depmod", "-b", stage, lab.kernel.version)
        write(stage / "etc/modules-load.d/second_bank.conf", "second_bank\n")
        for place, text in configuration(tool, (*DRIVERS, "second_bank")).items():
            debian.replace(stage / place, text)

    return _add(lab, tool, files, BankedServer, prepare)


def _add(lab, tool, files, kind, prepare):
    number = len(lab.servers) + 1
    name = f"server{number}"
    stage = lab.folder / f"{name}.stage"
    run("cp", "-al", tree(lab.kernel, tool), stage)
    for part in BOOTED:
        shutil.copy(stage / f"boot/{part}-{lab.kernel.version}", lab.folder / f"{name}.{part}")
    boots = Boot(*(lab.folder / f"{name}.{part}" for part in BOOTED), OS_WORDS)
    machine = Machine(kvm=lab.kvm, memory_mib=MEMORY_MIB)
    server = kind(name, number, machine, lab.network, lab.folder, lab.sockets, boots)
    prepare(server, stage)
    debian.configure(stage, name, f"{server.address}/{SUBNET_BITS}", MANAGER_ADDRESS)
    (stage / AT_HAND).mkdir()
    for file in files:
        shutil.copy(file, stage / AT_HAND)
    with open(server.disk, "wb") as disk:
        disk.truncate(DISK_BYTES)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", stage, server.disk)
    shutil.rmtree(stage)
    lab.servers.append(server)
    return server


def boot_own_initramfs(lab, server, words):
    """From its next start on the server, which is off, boots the initramfs that lies on its disk now, with these words."""
    image = lab.folder / f"{server.name}.own-initrd.img"
    run("debugfs", "-R", f"dump /boot/initrd.img-{lab.kernel.version} {image}", server.disk)
    server.boot_next(Boot(lab.folder / f"{server.name}.vmlinuz", image, f"{OS_WORDS} {words}"))


def higher(file, folder, also=None):
    """The same package with a higher version; `also(tree)` changes its files."""
    place = folder / "higher"
    shutil.rmtree(place, ignore_errors=True)
    run("dpkg-deb", "-R", file, place)
    control = place / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {HIGHER}", control.read_text()))
    if also:
        also(place)
    made = folder / f"higher-{file.name}"
    run("dpkg-deb", "--root-owner-group", "-b", place, made)
    shutil.rmtree(place)
    return made
