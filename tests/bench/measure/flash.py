"""The 2 MiB CFI chip of a virtual server: a full and a differential write, beside flashcp on the same chip."""

import json
import os
import random
import re
import statistics
import tempfile
from pathlib import Path

from lab import binaries
from lab.firmware import CHIP_BYTES, ERASE_BLOCK_BYTES
from lab.paths import OUTPUT
from lab.shell import run
from lab.testbed import Lab

# How often each program writes; the table has the median.
ROUNDS = int(os.environ.get("BENCH_FLASH_ROUNDS", "5"))
# Every eighth block differs in the differential write.
DIFFERENT_EVERY = 8
LIMIT_S = 300
DISK = "/state"
FLASHCP = f"{DISK}/bin/ld.so --library-path {DISK}/bin {DISK}/bin/flashcp"


def measure(report):
    """The programs take turns, so that what else this machine does meets both."""
    with tempfile.TemporaryDirectory(prefix="firmcast-bench-") as folder, Lab(OUTPUT / "bench-flash", with_manager=False) as lab:
        images = make_images(Path(folder))
        files = {f"bin/{name}": path for name, path in {**programs(), **images}.items()}
        server = lab.add_server(lab.firmware.ovmf_old, agent=False, files=files)
        lab.boot(server)
        chip = Chip(server, images)
        chip.firmcast("full-a")
        start_ms = statistics.median(chip.timed(f"{FLASHCP} --version") for _ in range(ROUNDS))
        report.row(**compare(chip, "full", "full-a", "full-b", ""))
        chip.firmcast("full-a")
        report.row(**compare(chip, "differential", "full-a", "some", "--partition"))
    report.note(f"median of {ROUNDS} writes each, in milliseconds; QEMU without KVM (TCG), whose chip takes no time of its own")
    report.note(f"full: all {CHIP_BYTES // ERASE_BLOCK_BYTES} blocks differ; differential: every {DIFFERENT_EVERY}th, flashcp --partition")
    report.note(f"firmcast keeps a backup, and reads the whole chip again at the end; flashcp includes {start_ms:.0f} ms for its start")


def make_images(folder):
    """Two images that differ in every block, and one that differs from the first in some."""
    noise = random.Random(2)
    images = {name: bytearray(noise.randbytes(CHIP_BYTES)) for name in ("full-a", "full-b")}
    images["some"] = bytearray(images["full-a"])
    for at in range(0, CHIP_BYTES, DIFFERENT_EVERY * ERASE_BLOCK_BYTES):
        images["some"][at : at + ERASE_BLOCK_BYTES] = noise.randbytes(ERASE_BLOCK_BYTES)
    for name, contents in images.items():
        (folder / name).write_bytes(contents)
    return {name: folder / name for name in images}


def programs():
    """The flash engine's driver, and flashcp with the libraries that the light OS does not have."""
    linked = run("ldd", "/usr/sbin/flashcp")
    library = re.search(r"libc\.so\.6 => (\S+)", linked).group(1)
    loader = re.search(r"(/lib64/ld-linux-x86-64\.so\.2)", linked).group(1)
    return {
        "flash_exercise": binaries.flash_exercise(),
        "flashcp": Path("/usr/sbin/flashcp"),
        "libc.so.6": Path(library).resolve(),
        "ld.so": Path(loader).resolve(),
    }


def compare(chip, what, first, second, option):
    """Both programs write the two images in turn."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(chip.firmcast(second))
        theirs.append(chip.flashcp(first, option))
    firmcast_ms, flashcp_ms = statistics.median(ours), statistics.median(theirs)
    return {
        "write": what,
        "firmcast ms": round(firmcast_ms, 1),
        "flashcp ms": round(flashcp_ms, 1),
        "firmcast/flashcp": round(firmcast_ms / flashcp_ms, 3),
        "firmcast all": [round(ms, 1) for ms in ours],
        "flashcp all": [round(ms, 1) for ms in theirs],
    }


class Chip:
    """The chip of a server, as both programs write it."""

    def __init__(self, server, images):
        self._server = server
        self._images = images

    def firmcast(self, image):
        """Milliseconds of the flash engine, from opening the chip to its verified end."""
        output = self._run(f"flash_exercise --device bios --bench {DISK}/bin/{image}")
        self._check(image, output)
        return json.loads(re.search(r"^\{.*\}$", output, re.MULTILINE).group())["time_ms"]

    def flashcp(self, image, option):
        """Milliseconds of flashcp, from its start to its end."""
        taken_ms = self.timed(f"{FLASHCP} {option} {DISK}/bin/{image} /dev/mtd0")
        self._check(image, "flashcp said nothing")
        return taken_ms

    def timed(self, command):
        """Milliseconds that a command takes in the server, in the steps of 10 that /proc/uptime has."""
        output = self._run(f"cut -d' ' -f1 /proc/uptime; {command}; status=$?; cut -d' ' -f1 /proc/uptime; exit $status")
        uptimes = re.findall(r"^(\d+\.\d+)$", output, re.MULTILINE)
        return (float(uptimes[-1]) - float(uptimes[0])) * 1000

    def _run(self, command):
        # A sub-shell of its own, so that `exit` ends only that.
        status, output = self._server.command(f"( {command} )", timeout_s=LIMIT_S)
        if status != 0:
            raise RuntimeError(f"`{command}` ended with status {status}:\n{output}")
        return output

    def _check(self, image, said):
        if self._server.flash_bytes() != self._images[image].read_bytes():
            raise RuntimeError(f"the chip does not hold {image}: {said}")
