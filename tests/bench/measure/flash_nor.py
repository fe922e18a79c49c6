"""The SPI NOR of an ARM board, as the programs that can write it do."""

import tempfile
import time
from pathlib import Path

from lab import nor_board
from lab.paths import OUTPUT

from .rewrites import Chip, Tool, compare, make_images

# One of which all rewrites, those under strace too, take minutes and not an hour.
MODEL = nor_board.Model("mx25l1606e", 2 * 1024 * 1024)
# A rewrite under strace, on a machine that does other things, too.
LIMIT_S = 600
FILE_TIMEOUT_S = 10


def measure_nor(report):
    """firmcast, flashcp and flashrom on the board's small chip."""
    size, block = MODEL.size_bytes, nor_board.ERASE_BLOCK_BYTES
    with tempfile.TemporaryDirectory(prefix="firmcast-bench-") as folder:
        images = make_images(Path(folder), size, block)
        files = {f"images/{name}": path for name, path in images.items()}
        board = nor_board.NorBoard(OUTPUT / "bench-flash-nor", nor_board.peers() | files, MODEL)
        board.machine.start()
        try:
            chip = Chip(
                runner(board.machine), settled(board.chips[nor_board.SMALL_CHIP]), images,
                device="/dev/mtd0", place="/images", strace="strace", exercise="flash_exercise",
            )  # fmt: skip
            tools = [
                Tool("firmcast", f"flash_exercise --device {nor_board.SMALL_CHIP} --bench {{file}}"),
                Tool("flashcp", "flashcp {file} /dev/mtd0"),
                Tool("flashcp --partition", "flashcp --partition {file} /dev/mtd0"),
                Tool("flashrom", "flashrom -p linux_mtd:dev=0 -w {file}"),
            ]
            compare(report, "SPI NOR", chip, tools, block)
        finally:
            board.machine.power_cut()


def runner(machine):
    """Runs commands on the board and insists that they succeed."""

    def run(command):
        status, output = machine.command(f"( {command} )", LIMIT_S)
        if status != 0:
            raise RuntimeError(f"`{command}` ended with status {status}:\n{output}")
        return output

    return run


def settled(file):
    """Reads a chip's file until it has stopped changing: QEMU writes it behind the guest's back."""

    def contents():
        before, deadline = None, time.monotonic() + FILE_TIMEOUT_S
        while time.monotonic() < deadline:
            held = file.read_bytes()
            if held == before:
                break
            before = held
            time.sleep(0.3)
        return held

    return contents
