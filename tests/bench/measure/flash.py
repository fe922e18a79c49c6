"""Rewrites of flash chips by firmcast, flashcp and flashrom: a virtual server's CFI chip, SPI NOR, and SPI NOR with a datasheet's times."""

import os
import tempfile
from pathlib import Path

from lab import binaries, packages
from lab.firmware import CHIP_BYTES, ERASE_BLOCK_BYTES
from lab.paths import OUTPUT
from lab.testbed import Lab

from .flash_nor import measure_nor
from .flash_timed import LINES, measure_timed
from .rewrites import ROUNDS, ROUNDS_TIMED, Chip, Tool, compare, linked_with, make_images

# Which chips are measured.
CHIPS = os.environ.get("BENCH_FLASH_CHIPS", "cfi,nor,timed-quad").split(",")
LIMIT_S = 300
DISK = "/state"
# Programs with libraries that the light OS does not have.
LINKED = f"{DISK}/bin/ld.so --library-path {DISK}/bin {DISK}/bin/"


def measure(report):
    """Each chip with all programs that can write it."""
    packages.install("strace")
    if "cfi" in CHIPS:
        measure_cfi(report)
    if "nor" in CHIPS:
        measure_nor(report)
    for name, lines in LINES.items():
        if name in CHIPS:
            measure_timed(report, name, lines)
    report.note(f"median of {ROUNDS} rewrites each, of {ROUNDS_TIMED} on timed chips; emulated machines without KVM (TCG)")
    report.note("the chips take no time of their own, but for the timed ones, which take a datasheet's")
    report.note("ms: firmcast from opening the chip to its verified end; the others from their start to their end")
    report.note("erases and bytes written: by the system calls on the device, under strace, in a run that is not timed")
    report.note("the chip's own ms: what transfers, erases and programs take by the datasheet, as the chip counts them")
    report.note("own: firmcast's time outside the chip's read, erase, write and status calls")
    report.note("digests: of the contents before, for the report; after the verified end, and no part of ms and own")


def measure_cfi(report):
    """The chip of a virtual server's BIOS: firmcast and flashcp. flashrom refuses it (several erase sizes)."""
    with tempfile.TemporaryDirectory(prefix="firmcast-bench-") as folder, Lab(OUTPUT / "bench-flash", with_manager=False) as lab:
        images = make_images(Path(folder), CHIP_BYTES, ERASE_BLOCK_BYTES)
        files = {f"bin/{name}": path for name, path in {**programs(), **images}.items()}
        server = lab.add_server(lab.firmware.ovmf_old, agent=False, files=files)
        lab.boot(server)
        chip = Chip(
            runner(server), server.flash_bytes, images,
            device="/dev/mtd0", place=f"{DISK}/bin", strace=f"{LINKED}strace", exercise="flash_exercise",
        )  # fmt: skip
        tools = [
            Tool("firmcast", "flash_exercise --device bios --bench {file}"),
            Tool("flashcp", f"{LINKED}flashcp {{file}} /dev/mtd0"),
            Tool("flashcp --partition", f"{LINKED}flashcp --partition {{file}} /dev/mtd0"),
        ]
        compare(report, "CFI", chip, tools, ERASE_BLOCK_BYTES)


def runner(server):
    """Runs commands in a server and insists that they succeed."""

    def run(command):
        # A sub-shell of its own, so that `exit` ends only that.
        status, output = server.command(f"( {command} )", timeout_s=LIMIT_S)
        if status != 0:
            raise RuntimeError(f"`{command}` ended with status {status}:\n{output}")
        return output

    return run


def programs():
    """The flash engine's driver, and flashcp and strace with their libraries."""
    flashcp, strace = Path("/usr/sbin/flashcp"), Path("/usr/bin/strace")
    own = {"flash_exercise": binaries.flash_exercise(), "flashcp": flashcp, "strace": strace}
    return own | linked_with(flashcp) | linked_with(strace)
