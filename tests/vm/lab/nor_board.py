"""An ARM board with real SPI NOR chips behind the kernel's spi-nor driver: QEMU's ast2600-evb."""

from dataclasses import dataclass
from pathlib import Path

from . import armhf, packages
from .cache import cached
from .console_machine import ConsoleMachine, initramfs, with_dependencies
from .kernel import Kernel
from .shell import run

# The chip that the board starts from is a small one, so that many rewrites of all of it take little time...
SMALL_CHIP = "bmc"
# ...and the one that holds the host's firmware has the board's own size.
LARGE_CHIP, LARGE_BYTES = "pnor", 64 * 1024 * 1024
ERASE_BLOCK_BYTES = 4096
MODULES = ("spi-nor", "spi-aspeed-smc")
META_PACKAGE = "linux-image-armmp:armhf"
# Programs with their libraries, for comparison.
PEER_PACKAGES = [f"{name}:{armhf.ARCHITECTURE}" for name in (
    "mtd-utils", "flashrom", "strace", "libc6", "libftdi1-2", "libjaylink0", "libpci3", "libusb-1.0-0", "libudev1", "libkmod2",
    "zlib1g", "liblzma5", "libzstd1", "libssl3", "libunwind8", "libcap2", "libgcc-s1",
)]  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A kind of chip that QEMU has."""

    name: str
    size_bytes: int


SMALL = Model("mx25l6405d", 8 * 1024 * 1024)
# One whose block protect bits both QEMU and the kernel know.
LOCKING = Model("n25q064", 8 * 1024 * 1024)


class NorBoard:
    """The machine and the files of its chips. `files` come into its memory (place there -> file here)."""

    def __init__(self, folder, files, small=SMALL):
        packages.install("qemu-system-arm")
        folder.mkdir(parents=True, exist_ok=True)
        kernel, device_tree = prepare()
        programs = {"bin/flash_exercise": armhf.flash_exercise()}
        system = initramfs("nor-board", busybox(), with_dependencies(kernel, *MODULES), programs | files)
        self.chips = {name: folder / f"{name}.flash" for name in (SMALL_CHIP, LARGE_CHIP)}
        drives = []
        for name, size_bytes in ((SMALL_CHIP, small.size_bytes), (LARGE_CHIP, LARGE_BYTES)):
            # Zeros: every eraseblock has to be erased before it can hold anything else.
            self.chips[name].write_bytes(bytes(size_bytes))
            drives += ["-drive", f"if=mtd,format=raw,file={self.chips[name]}"]
        self.machine = ConsoleMachine(
            "nor-board",
            [
                "qemu-system-arm", "-M", f"ast2600-evb,fmc-model={small.name}", *drives, "-nodefaults",
                "-kernel", kernel.image, "-dtb", device_tree, "-initrd", system,
                "-append", "console=ttyS4,115200 vmalloc=640M quiet",
            ],
            folder / "nor-board.console",
        )  # fmt: skip


def prepare():
    """Debian's kernel for the board, and the board's device tree."""
    package = armhf.dependency(META_PACKAGE, r"linux-image-\S+-armmp:armhf")
    version = package.removeprefix("linux-image-").removesuffix(":armhf")

    def make(folder):
        armhf.unpack(folder, package)
        if (folder / "usr/lib/modules").exists() and not (folder / "lib").exists():
            (folder / "lib").symlink_to("usr/lib")
        run("depmod", "-b", folder, version)

    root = cached("kernel-armhf", [package, Path(__file__)], make)
    return Kernel(version, root), root / f"usr/lib/linux-image-{version}/aspeed-ast2600-evb.dtb"


def busybox():
    """The board's busybox."""

    def make(folder):
        armhf.unpack(folder, "busybox-static:armhf")

    return cached("busybox-armhf", [Path(__file__)], make) / "bin/busybox"


def peers():
    """The files of flashcp, flashrom and strace, each with its libraries in /lib (place there -> file here)."""

    def make(folder):
        armhf.unpack(folder, *PEER_PACKAGES)

    root = cached("peers-armhf", [*PEER_PACKAGES, Path(__file__)], make)
    programs = {f"bin/{name}": next(root.glob(f"usr/*bin/{name}")) for name in ("flashcp", "flash_lock", "flashrom", "strace")}
    libraries = {f"lib/{file.name}": file for file in root.glob("**/arm-linux-gnueabihf/*.so*") if file.is_file()}
    return programs | libraries
