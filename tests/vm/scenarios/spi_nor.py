"""The flash engine, built for 32-bit ARM, on SPI NOR chips behind the kernel's own driver."""

import hashlib
import json
import re
import time

from lab.nor_board import ERASE_BLOCK_BYTES, LARGE_BYTES, LARGE_CHIP, LOCKING, SMALL_CHIP, NorBoard, peers
from lab.scenario import scenario

EXERCISE_TIMEOUT_S = 240
LARGE_TIMEOUT_S = 240
# QEMU writes the chip's file behind the guest's back.
FILE_TIMEOUT_S = 10
# Of the large chip's 16,384 eraseblocks so many change the second time.
CHANGED_BLOCKS = 1600


@scenario(limit_s=600, with_manager=False)
def spi_nor(lab):
    """The flash engine on an ARM board: everything on a SPI NOR of 8 MiB, a full and a differential rewrite of 64 MiB"""
    board = NorBoard(lab.folder, {})
    board.machine.start()
    status, known = board.machine.command("cat /sys/class/mtd/mtd?/name /sys/class/mtd/mtd?/type; ls /sys/bus/spi/drivers/spi-nor")
    lab.check("the kernel's spi-nor driver has both chips", status == 0 and known.count("nor") >= 2 and "spi1.0" in known, known)
    status, output = board.machine.command(f"flash_exercise --device {SMALL_CHIP} --destroy-contents", EXERCISE_TIMEOUT_S)
    lab.check("flash_exercise passes on the small chip", status == 0 and "FAIL" not in output, output)
    rewrite_large(lab, board)
    board.machine.begin("reboot -f")
    board.machine.power_cut()


def rewrite_large(lab, board):
    """64 MiB of noise, and then the same with some blocks of other noise; compared from outside."""
    images = (
        f"dd if=/dev/urandom of=/work/first bs=1M count={LARGE_BYTES >> 20}",
        "cp /work/first /work/second",
        f"dd if=/dev/urandom of=/work/second bs=4k seek=3000 count={CHANGED_BLOCKS} conv=notrunc",
    )
    status, output = board.machine.command(" && ".join(images), LARGE_TIMEOUT_S)
    lab.check("the images for the large chip are made", status == 0, output)
    for name, blocks in (("first", LARGE_BYTES // 4096), ("second", CHANGED_BLOCKS)):
        command = f"flash_exercise --device {LARGE_CHIP} --bench /work/{name} && sha256sum /work/{name}"
        status, output = board.machine.command(command, LARGE_TIMEOUT_S)
        said = re.search(r"^\{.*\}$", output, re.MULTILINE)
        lab.check(f"an update of the large chip to its {name} image ends well", status == 0 and said, output)
        took = json.loads(said.group())
        lab.check(f"it wrote {blocks} eraseblocks and no more", took["bytes_written"] == blocks * 4096, took)
        digest = re.search(r"^([0-9a-f]{64}) ", output, re.MULTILINE).group(1)
        own = 100 * (1 - took["device_ms"] / took["time_ms"])
        about = f"{took['time_ms'] / 1000:.1f} s, {own:.1f} % of it outside the device"
        lab.check(f"the chip's file holds the {name} image ({about})", holds(board.chips[LARGE_CHIP], digest))


def holds(file, digest):
    """Whether a chip's file comes to have this digest."""
    deadline = time.monotonic() + FILE_TIMEOUT_S
    while time.monotonic() < deadline:
        if hashlib.sha256(file.read_bytes()).hexdigest() == digest:
            return True
        time.sleep(0.2)
    return False


@scenario(limit_s=600, with_manager=False)
def spi_nor_locks(lab):
    """Block protect bits of a real chip behind the kernel's spi-nor driver: the flash engine unlocks what it changes, and the same
    range is locked afterwards, as another program says"""
    board = NorBoard(lab.folder, peers(), small=LOCKING)
    board.machine.start()
    half = f"{LOCKING.size_bytes // 2:#x} {LOCKING.size_bytes // 2 // ERASE_BLOCK_BYTES}"
    device, image = "/dev/mtd0", "/work/image"
    status, output = board.machine.command(f"grep -l {SMALL_CHIP} /sys/class/mtd/mtd0/name && flash_lock {device} {half}")
    lab.check("the upper half of the chip is locked", status == 0, output)
    # Only one eraseblock differs, in the middle of what is locked: the driver cannot unlock it alone.
    status, output = board.machine.command(
        f"dd if={device} of={image} bs=64k && dd if=/dev/urandom of={image} bs=4k seek=1600 count=1 conv=notrunc && "
        f"flash_lock -i {device} {half}"
    )
    lab.check("flash_lock says so", "Lock status: locked" in output, output)
    status, output = board.machine.command(f"flash_exercise --device {SMALL_CHIP} --update {image}", EXERCISE_TIMEOUT_S)
    end = re.search(r"^end: (.*)$", output, re.MULTILINE)
    lab.check("the update ends without a remark", status == 0 and end and "protected" not in end.group(1), output)
    status, output = board.machine.command(f"cmp {image} {device} && flash_lock -i {device} {half}")
    lab.check("the chip holds the image, and the half is locked again", "Lock status: locked" in output, output)
    status, output = board.machine.command(f"flash_lock -i {device} 0x0 1")
    lab.check("the lower half is not", "Lock status: unlocked" in output, output)
    board.machine.begin("reboot -f")
    board.machine.power_cut()
