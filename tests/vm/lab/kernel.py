"""The distribution's kernel, unpacked, and the lab's own modules for it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .cache import cached
from .paths import VM_DIR
from .shell import run


@dataclass(frozen=True)
class Kernel:
    """A kernel with its modules under `root/lib/modules/<version>`, as if installed there."""

    version: str
    root: Path

    @property
    def image(self):
        """The bootable kernel."""
        return self.root / "boot" / f"vmlinuz-{self.version}"

    def module(self, name):
        """One of the lab's own modules."""
        return self.root / "lab-modules" / f"{name}.ko"


def prepare(meta="linux-image-amd64"):
    """Debian's kernel for which the package `meta` stands, with its modules, and the lab's own modules apart from them."""
    package = packages.dependency(meta, r"linux-image-\S+")
    version = package.removeprefix("linux-image-")
    package_version = packages.versions(package)[0]
    packages.install(f"linux-headers-{version}")
    sources = [VM_DIR / name for name in ("bios_flash", "flash_fault", "flash_bother", "flash_locks", "second_bank")]

    def make(folder):
        packages.unpack(package, package_version, folder)
        if (folder / "usr/lib/modules").exists() and not (folder / "lib").exists():
            (folder / "lib").symlink_to("usr/lib")
        own = folder / "lab-modules"
        own.mkdir()
        for source in sources:
            shutil.copy(build_module(source, version, folder / "build"), own)
        shutil.rmtree(folder / "build")
        run("depmod", "-b", folder, version)

    return Kernel(version, cached("kernel", [package, package_version, *sources], make))


def build_module(source, version, workplace):
    """Builds one out-of-tree module against the headers of `version`."""
    shutil.rmtree(workplace, ignore_errors=True)
    shutil.copytree(source, workplace)
    run("make", "-C", f"/usr/src/linux-headers-{version}", f"M={workplace}", "modules")
    return workplace / f"{source.name}.ko"
