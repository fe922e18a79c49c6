"""SPI NOR that takes as long as a datasheet says, behind the kernel's spi-nor driver in a virtual PC: see timed_spi_nor.c."""

import shutil
import tempfile
from pathlib import Path

from lab import binaries, kernel, packages
from lab.boot import CPU, QUIRKS
from lab.cache import cached
from lab.console_machine import ConsoleMachine, initramfs, with_dependencies
from lab.initramfs import BUSYBOX
from lab.paths import OUTPUT

from .flash_nor import runner
from .rewrites import ROUNDS_TIMED, Chip, Tool, compare, linked_with, make_images

# On how many lines the controller can read.
LINES = {"timed-quad": 4, "timed-single": 1}
MODULE = Path(__file__).resolve().parent / "timed_spi_nor"
# Of W25Q16JV-IM, and the name that the module gives it.
CHIP_BYTES, ERASE_BLOCK_BYTES, CHIP_NAME = 2 * 1024 * 1024, 4096, "timed"
MEMORY_MIB = 512
PROGRAMS = {"flashcp": Path("/usr/sbin/flashcp"), "flashrom": Path("/usr/sbin/flashrom"), "strace": Path("/usr/bin/strace")}


def measure_timed(report, name, lines):
    """firmcast, flashcp and flashrom on the chip."""
    packages.install(*packages.NEEDED, "mtd-utils", "flashrom")
    with tempfile.TemporaryDirectory(prefix="firmcast-bench-") as folder:
        images = make_images(Path(folder), CHIP_BYTES, ERASE_BLOCK_BYTES)
        files = {f"images/{image}": path for image, path in images.items()}
        out = OUTPUT / f"bench-flash-{name}"
        out.mkdir(parents=True, exist_ok=True)
        cells = out / "cells"
        # Zeros: every eraseblock has to be erased before it can hold anything else.
        cells.write_bytes(bytes(CHIP_BYTES))
        machine = computer(name, lines, programs() | files, cells, out / "console")
        machine.start()
        try:
            chip = Chip(
                runner(machine), cells.read_bytes, images,
                device="/dev/mtd0", place="/images", strace="strace", exercise="flash_exercise",
                spent=f"/sys/module/{MODULE.name}/parameters/spent_ns",
            )  # fmt: skip
            tools = [
                Tool("firmcast", f"flash_exercise --device {CHIP_NAME} --bench {{file}}"),
                Tool("flashcp", "flashcp {file} /dev/mtd0"),
                Tool("flashcp --partition", "flashcp --partition {file} /dev/mtd0"),
                Tool("flashrom", "flashrom -p linux_mtd:dev=0 -w {file}"),
            ]
            compare(report, name, chip, tools, ERASE_BLOCK_BYTES, ROUNDS_TIMED)
        finally:
            machine.power_cut()


def computer(name, lines, files, cells, log):
    """The machine, whose chip's cells are the file `cells`; `files` come into its memory (place there -> file here)."""
    running = kernel.prepare()

    def make(folder):
        kernel.build_module(MODULE, running.version, folder / "build").rename(folder / f"{MODULE.name}.ko")
        shutil.rmtree(folder / "build")

    module = cached(MODULE.name, [running.root.name, MODULE], make) / f"{MODULE.name}.ko"
    modules = [*with_dependencies(running, "spi-nor"), (module, f"lines={lines}")]
    return ConsoleMachine(
        name,
        [
            "qemu-system-x86_64", "-nodefaults", "-M", "q35,accel=tcg", "-cpu", CPU, "-m", MEMORY_MIB,
            "-object", f"memory-backend-file,id=cells,share=on,size={CHIP_BYTES},mem-path={cells}",
            "-device", "ivshmem-plain,memdev=cells",
            "-kernel", running.image, "-initrd", initramfs(name, BUSYBOX, modules, files), "-append", f"{QUIRKS} quiet panic=-1",
        ],
        log,
    )  # fmt: skip


def programs():
    """The flash engine's driver and its peers, with their libraries where the loader looks."""
    libraries = {}
    for program in PROGRAMS.values():
        libraries |= linked_with(program)
    places = {"lib64/ld-linux-x86-64.so.2": libraries.pop("ld.so")} | {f"lib/{name}": path for name, path in libraries.items()}
    return {"bin/flash_exercise": binaries.flash_exercise()} | {f"bin/{name}": path for name, path in PROGRAMS.items()} | places
