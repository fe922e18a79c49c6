"""The light server OS: an initramfs of busybox, the distribution's modules and one script."""

import shutil
from pathlib import Path

from .cache import cached
from .paths import VM_DIR
from .shell import CommandFailed, run

SERVER_OS = VM_DIR / "server-os"
BUSYBOX = Path("/bin/busybox")


def prepare(kernel):
    """Returns the initramfs file of the light server OS for `kernel`."""

    def make(folder):
        tree = folder / "tree"
        for name in ("bin", "sbin", "etc", "dev"):
            (tree / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, tree / "bin/busybox")
        (tree / "sbin/modprobe").symlink_to("/bin/busybox")
        shutil.copy(SERVER_OS / "init", tree / "init")
        shutil.copy(SERVER_OS / "udhcpc.script", tree / "etc/udhcpc.script")
        shutil.copy(SERVER_OS / "init-root", tree / "init-root")
        (tree / "init").chmod(0o755)
        (tree / "init-root").chmod(0o755)
        (tree / "etc/udhcpc.script").chmod(0o755)
        shutil.copy(SERVER_OS / "modules", tree / "etc/modules")
        copy_modules(kernel, tree)
        run("sh", "-c", f"find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > {folder / 'server-os.img'}", cwd=tree)
        shutil.rmtree(tree)

    parts = [SERVER_OS, BUSYBOX, kernel.root.name, Path(__file__)]
    return cached("server-os", parts, make) / "server-os.img"


def copy_modules(kernel, tree, more=()):
    """Copies the listed modules and `more` with all that they need, and `bios_flash`; the paths stay those of the kernel's
    package."""
    own = kernel.module("bios_flash")
    names = (SERVER_OS / "modules").read_text().split() + (SERVER_OS / "modules-at-hand").read_text().split()
    names += [*more, *(name for name in run("modinfo", "-F", "depends", own).strip().split(",") if name)]
    for name in names:
        try:
            needed = run("modprobe", "-d", kernel.root, "-S", kernel.version, "--show-depends", name)
        except CommandFailed:
            print(f"lab: kernel {kernel.version} has no module {name}")
            continue
        for line in needed.splitlines():
            if line.startswith("insmod "):
                file = Path(line.split()[1])
                target = tree / "lib/modules" / kernel.version / str(file).split(f"/{kernel.version}/", 1)[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
    extra = tree / "lib/modules" / kernel.version / "extra"
    extra.mkdir(parents=True)
    shutil.copy(own, extra)
    run("depmod", "-b", tree, kernel.version)
