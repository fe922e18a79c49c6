"""The whole server OS: a minimal Debian with systemd, made by debootstrap."""

import shutil
from pathlib import Path

from . import packages
from .cache import cached
from .initramfs import SERVER_OS, copy_modules
from .paths import PROJECT
from .shell import run, run_with_retries, write

SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,udev,kmod,iproute2,procps,apparmor"
FILES = SERVER_OS / "debian"
WAIT_ONLINE_S = 60


def prepare(kernel, more=(), modules=()):
    """The tree of the OS, without what belongs to one server; with `more` packages and `modules` than usual."""
    packages.install("debootstrap")
    names = ",".join([PACKAGES, *more])

    def make(folder):
        tree = folder / "tree"
        run_with_retries("debootstrap", "--variant=minbase", f"--include={names}", SUITE, tree)
        copy_modules(kernel, tree, modules)
        shutil.copy(FILES / "lab-control", tree / "usr/local/sbin")
        shutil.copy(FILES / "lab-control.service", tree / "etc/systemd/system")
        run("chroot", tree, "systemctl", "enable", "lab-control.service", "systemd-networkd.service")
        run("chroot", tree, "passwd", "-d", "root")
        shutil.rmtree(tree / "var/cache/apt", ignore_errors=True)

    parts = [SUITE, names, *modules, FILES, kernel.root.name, Path(__file__)]
    return cached("debian-more" if more else "debian", parts, make) / "tree"


def copy_tree(kernel, stage, more=(), modules=()):
    """A tree for one server; unchanged files share their storage with the cached tree."""
    run("cp", "-al", prepare(kernel, more, modules), stage)


def configure(stage, name, address, gateway):
    """Host name and network of one server."""
    replace(stage / "etc/hostname", f"{name}\n")
    replace(stage / "etc/hosts", f"127.0.0.1 localhost {name}\n")
    network = "DHCP=ipv4\n" if address == "dhcp" else f"Address={address}\nGateway={gateway}\n"
    replace(stage / "etc/systemd/network/lab.network", f"[Match]\nName=en* eth*\n\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n{network}")


def install_units(stage):
    """The agent as its package installs it: units that the distribution's systemd finds and enables, and its AppArmor profiles."""
    shutil.copy(PROJECT / "packaging/apparmor/usr.sbin.firmcastd", stage / "etc/apparmor.d")
    enabled = []
    for unit in sorted((PROJECT / "systemd").glob("firmcastd*")):
        shutil.copy(unit, stage / "etc/systemd/system")
        enabled += [unit.name] if "[Install]" in unit.read_text() else []
    run("chroot", stage, "systemctl", "enable", *enabled)


def replace(file, text):
    """Writes a file anew: the old one may share its storage with the cached tree."""
    file.unlink(missing_ok=True)
    write(file, text)
