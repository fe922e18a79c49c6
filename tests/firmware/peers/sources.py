"""Firmware and parsers: Debian packages that are only unpacked, and uefi-firmware in a virtual environment."""

import sys
import sysconfig

from lab import packages
from lab.shell import CommandFailed, run, run_with_retries

FIRMWARE = "ovmf ovmf-ia32 qemu-efi-aarch64 qemu-efi-arm seabios bochsbios qemu-system-data u-boot-qemu opensbi".split()
# Newer releases of Debian have these.
NEWER_FIRMWARE = "qemu-efi-riscv64 qemu-efi-loongarch64".split()
TOOLS = "coreboot-utils"
UEFI_FIRMWARE = "uefi-firmware==1.16"
PSPTOOL = "psptool==3.7"
PATTERNS = ("*.fd", "bios*.bin", "BIOS-*", "u-boot.rom", "u-boot.bin", "fw_*.bin", "slof.bin", "qboot.rom")


def images(folder):
    """Every firmware image of the packages, each contents once."""
    found = {}
    known = [name for name in NEWER_FIRMWARE if packages.versions(name)]
    for name in FIRMWARE + known:
        unpacked = unpack(folder, name)
        for pattern in PATTERNS:
            for path in sorted(unpacked.rglob(pattern)):
                if path.is_file() and not path.is_symlink():
                    found.setdefault(path.read_bytes(), path)
    return list(found.values())


def tool(folder, name):
    """A program of coreboot."""
    return unpack(folder, TOOLS) / "usr" / "sbin" / name


def unpack(folder, name):
    """The folder of a package's files."""
    unpacked = folder / "packages" / name
    complete = unpacked / ".complete"
    if not complete.exists():
        unpacked.mkdir(parents=True, exist_ok=True)
        versions = packages.versions(name)
        if not versions:
            raise packages.LabCannotRun(f"apt knows no package {name}: are the Debian sources configured?")
        packages.unpack(name, versions[0], unpacked)
        complete.touch()
    return unpacked


def add_python(folder, package):
    """Installs a package of PyPI in the environment of its own; returns the folder of its programs."""
    programs = folder / "python" / "bin"
    python = programs / "python3"
    if not python.exists():
        make_environment(folder / "python")
    run_with_retries(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package)
    return programs


def add_uefi_firmware(folder):
    """Makes the module uefi_firmware importable."""
    environment = add_python(folder, UEFI_FIRMWARE).parent
    sys.path.append(sysconfig.get_path("purelib", "venv", {"base": environment, "installed_base": environment}))


def make_environment(environment):
    try:
        run(sys.executable, "-m", "venv", environment)
    except CommandFailed:
        packages.install("python3-venv")
        run(sys.executable, "-m", "venv", "--clear", environment)
