"""Real firmware images for a 2 MiB flash chip."""

import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .cache import cached

CHIP_BYTES = 2 * 1024 * 1024
ERASE_BLOCK_BYTES = 4096
# The name that the kernel gives to the chip below the first one.
SECOND_BANK = "physmap-flash"
# OVMF keeps its UEFI variables here and rewrites them whenever it boots.
OVMF_VARIABLES_BYTES = 0x20000
MARKED_BLOCKS = 64
SEABIOS_VERSION = re.compile(rb"[0-9.]+-debian-[-0-9.]+")
# How much of the free space below SeaBIOS its newer build fills.
NEWER_SEABIOS_FILLS_BYTES = 0x180000
# A board whose chip of 4 MiB has a management engine's region, which the host may neither read nor write.
BOARD_WITH_ME = "Virtual Server with ME"
ME_BYTES = range(0x1000, CHIP_BYTES)


@dataclass(frozen=True)
class Firmware:
    """Paths of the images that the scenarios flash."""

    ovmf_old: Path
    ovmf_new: Path
    seabios: Path
    seabios_newer: Path
    oversized: Path


def prepare():
    """Two different OVMF images, two of SeaBIOS, and an image that is twice as large as the chip."""
    found = packages.versions("ovmf")
    seabios = Path("/usr/share/seabios/bios-256k.bin")

    def make(folder):
        _make_ovmf(folder, found)
        legacy = seabios.read_bytes()
        whole = b"\xff" * (CHIP_BYTES - len(legacy)) + legacy
        (folder / "seabios.fd").write_bytes(whole)
        (folder / "seabios-newer.fd").write_bytes(newer_seabios(whole))
        newest = (folder / "ovmf-new.fd").read_bytes()
        (folder / "oversized.fd").write_bytes(b"\xff" * CHIP_BYTES + newest)

    folder = cached("firmware", [*found, seabios, Path(__file__)], make)
    names = ("ovmf-old", "ovmf-new", "seabios", "seabios-newer", "oversized")
    return Firmware(*(folder / f"{name}.fd" for name in names))


def _make_ovmf(folder, found):
    images = []
    for version in found:
        place = folder / version.replace(":", "_")
        place.mkdir()
        packages.unpack("ovmf", version, place)
        image = (place / "usr/share/ovmf/OVMF.fd").read_bytes()
        if len(image) != CHIP_BYTES:
            raise packages.LabCannotRun(f"OVMF.fd of {version}: expected 0x{CHIP_BYTES:x} bytes, got 0x{len(image):x}")
        images.append(image)
    different = [image for image in images if _code(image) != _code(images[0])]
    if different:
        old = different[-1]
    else:
        print(
            f"lab: WARNING: apt offers only one build of ovmf ({', '.join(found)}). The 'old' firmware is the same\n"
            f"lab: WARNING: build with marked free space: updates are real, but change only {MARKED_BLOCKS} blocks.",
            file=sys.stderr,
        )
        old = mark_free_space(images[0])
    (folder / "ovmf-new.fd").write_bytes(images[0])
    (folder / "ovmf-old.fd").write_bytes(old)


def _code(image):
    return image[OVMF_VARIABLES_BYTES:]


def mark_free_space(image):
    """The same firmware with other bytes where it has none: the end of a block, between two blocks that are erased."""
    marked = bytearray(image)
    erased = b"\xff" * ERASE_BLOCK_BYTES
    blocks = range(OVMF_VARIABLES_BYTES, len(image) - ERASE_BLOCK_BYTES, ERASE_BLOCK_BYTES)
    free = [at for at in blocks if image[at - ERASE_BLOCK_BYTES : at + ERASE_BLOCK_BYTES] == 2 * erased]
    for at in free[-MARKED_BLOCKS:]:
        marked[at + ERASE_BLOCK_BYTES - 16 : at + ERASE_BLOCK_BYTES] = b"free space mark."
    return bytes(marked)


def newer_seabios(image):
    """SeaBIOS that calls itself version 9 in its DMI table, with contents where the older one has none: it takes a while to flash."""
    version = SEABIOS_VERSION.search(image)
    newer = b"9" + version.group()[1:]
    named = image[: version.start()] + newer + image[version.end() :]
    return random.Random(newer).randbytes(NEWER_SEABIOS_FILLS_BYTES) + named[NEWER_SEABIOS_FILLS_BYTES:]


def seabios_version(image):
    """The version that a file with SeaBIOS has in its DMI table."""
    return SEABIOS_VERSION.search(image.read_bytes()).group().decode()


def with_me(image, salt):
    """The image for the board with a management engine: descriptor, a region that depends on `salt`, and `image` behind."""
    return descriptor(ME_BYTES, 2 * CHIP_BYTES) + random.Random(salt).randbytes(len(ME_BYTES)) + image


def descriptor(engine, chip_bytes):
    """An Intel flash descriptor: the management engine's region `engine`, closed to the host, and the BIOS region behind it."""
    pages = {0x40: (0, 0), 0x44: (engine.stop, chip_bytes - 1), 0x48: (engine.start, engine.stop - 1)}
    # The host reads descriptor and BIOS, and writes the BIOS.
    return descriptor_of(pages, 0b11 << 8 | 0b10 << 20)


def descriptor_with_network(network, bios):
    """One with the region of the network controller and the BIOS region, all open to the host."""
    pages = {0x40: (0, 0), 0x44: (bios.start, bios.stop - 1), 0x4C: (network.start, network.stop - 1)}
    return descriptor_of(pages, 0xFFFFFF00)


def descriptor_of(pages, access):
    """A descriptor as Sky Lake has it: the first and last byte of each region by its register, and what the host may do."""
    descriptor = bytearray(b"\xff" * 0x1000)
    unused = {at: 0x7FFF for at in range(0x40, 0x80, 4)}
    used = {at: (last >> 12) << 16 | first >> 12 for at, (first, last) in pages.items()}
    head = {0x10: 0x0FF0A55A, 0x14: 0x00040003, 0x18: 0x45100208, 0x1C: 0x00310330, 0xEFC: 0x000004DF}
    for at, word in {**head, **unused, **used, 0x80: access}.items():
        descriptor[at : at + 4] = word.to_bytes(4, "little")
    return bytes(descriptor)
