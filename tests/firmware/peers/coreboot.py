"""Intel flash descriptors, flash maps and coreboot file systems, by the programs of coreboot."""

import random
import re
import struct

from lab.shell import run

from . import sources

SEED = 7
DESCRIPTORS = 24
PAGE_BYTES = 0x1000
IMAGE_PAGES = 0x800
UNUSED = 0x00007FFF
# Regions that both encodings have, with ifdtool's names for places and for access.
REGIONS = {
    0: ("fd", "Flash Descriptor"), 1: ("bios", "Host CPU/BIOS Region"), 2: ("me", "Intel ME Region"),
    3: ("gbe", "GbE Region"), 4: ("pd", "Platform Data Region"), 8: ("ec", "EC Region"),
}
FLASH_MAP = """
FLASH@0xfff00000 0x100000 {
	SI_DESC@0x0 0x1000
	SI_GBE@0x1000 0x2000
	SI_BIOS@0x10000 0xf0000 {
		RW_VPD@0x0 0x2000
		SMMSTORE@0x10000 0x10000
		FMAP@0x20000 0x200
		COREBOOT(CBFS)@0x20200 0xcfe00
	}
}
"""


def check_descriptors(folder, firmcast, failures):
    """Random descriptors of both encodings: the same regions and the same access for the host as ifdtool reads from them."""
    ifdtool = sources.tool(folder, "ifdtool")
    image = folder / "descriptor.bin"
    for number in range(DESCRIPTORS):
        dice = random.Random(SEED + number)
        is_new = number % 2 == 0
        image.write_bytes(descriptor(dice, is_new))
        platform = ["-p", "sklkbl"] if is_new else []
        regions = regions_by_ifdtool(ifdtool, platform, image, folder / "descriptor.layout")
        seen = firmcast.describe(image)
        ours = {r["name"]: (r["offset"], r["offset"] + r["length"]) for r in seen["layout"]}
        failures.check(ours == regions, f"descriptor {number}: firmcast sees {ours}, ifdtool {regions}")
        for kind, key in (("Read", "no_read"), ("Write", "no_write")):
            closed = closed_by_ifdtool(ifdtool, platform, image, kind)
            theirs = sorted(regions[name] for name in closed if name in regions)
            got = sorted(tuple(pair) for pair in seen["host_access"][key])
            failures.check(got == theirs, f"descriptor {number}: firmcast sees {key} {got}, ifdtool {theirs}")
    return DESCRIPTORS


def descriptor(dice, is_new):
    """An image that begins with a descriptor of random regions and random access."""
    page = bytearray(b"\xff" * PAGE_BYTES)
    put = lambda offset, word: struct.pack_into("<I", page, offset, word)
    numbers = [number for number in REGIONS if number <= 4 or is_new]
    # FCBA 30h, FRBA 40h; the read clock by which ifdtool tells the encoding; straps as these generations have them.
    master_base = 0x80 if is_new else 0x60
    for offset, word in ((0x10, 0x0FF0A55A), (0x14, 0x02040003), (0xEFC, 0x000004DF)):
        put(offset, word)
    put(0x18, (0x45100200 if is_new else 0x12100200) | master_base >> 4)
    put(0x1C, 0x00310330 if is_new else 0x00210120)
    put(0x30, 6 << 17 if is_new else 0)
    for number in range(16 if is_new else 5):
        put(0x40 + 4 * number, UNUSED)
    put(0x40, 0)
    bounds = sorted(dice.sample(range(1, IMAGE_PAGES), 2 * (len(numbers) - 1)))
    dice.shuffle(others := numbers[1:])
    for number, first, end in zip(others, bounds[::2], bounds[1::2]):
        if dice.random() < 0.8:
            put(0x40 + 4 * number, (end - 1) << 16 | first)
    put(master_base, dice.getrandbits(32))
    return bytes(page) + b"\xff" * (PAGE_BYTES * (IMAGE_PAGES - 1))


def regions_by_ifdtool(ifdtool, platform, image, layout):
    run(ifdtool, *platform, "-f", layout, image)
    names = {name for name, _ in REGIONS.values()}
    regions = {}
    for line in layout.read_text().splitlines():
        start, end, name = re.fullmatch(r"([0-9a-f]+):([0-9a-f]+) (\S+)", line).groups()
        if name in names:
            regions[name] = (int(start, 16), int(end, 16) + 1)
    return regions


def closed_by_ifdtool(ifdtool, platform, image, kind):
    """Names of the regions that ifdtool calls closed to the host."""
    host = run(ifdtool, *platform, "-d", image).split("FLMSTR1:")[1].split("FLMSTR2:")[0]
    return {name for name, label in REGIONS.values() if re.search(rf"{re.escape(label)} {kind} Access: +disabled", host)}


def check_flash_map(folder, firmcast, failures):
    """A flash map and files made by fmaptool and cbfstool: the same areas and files, and damage to them is found."""
    image, names = make_image(folder)
    cbfstool = sources.tool(folder, "cbfstool")
    listed = re.findall(r"'(\S+)' \(.*?size (\d+), offset (\d+)\)", run(cbfstool, image, "layout", "-w"))
    theirs = sorted((name, int(offset), int(size)) for name, size, offset in listed)
    seen = firmcast.describe(image)
    ours = sorted((r["name"], r["offset"], r["length"]) for r in seen["layout"])
    failures.check(ours == theirs, f"flash map: firmcast sees {ours}, cbfstool {theirs}")

    rows = [line.split("\t") for line in run(cbfstool, image, "print", "-r", "COREBOOT", "-k").splitlines()[1:]]
    files = [row for row in rows if row[2] not in ("null", "deleted")]
    text = f"flash map, {len(files)} coreboot files, {names} of them with a digest, reset vector, "
    failures.check(seen["verdict"]["text"].startswith(f"valid: {text}"), f"coreboot image: {seen['verdict']['text']}, expected {text}")

    area = next(offset for name, offset, _ in theirs if name == "COREBOOT")
    starts = [area + int(row[1], 16) for row in rows]
    flips = [(start + at, bit) for start in starts for at in (0, 7) for bit in (0, 6)]
    flips += [(starts[0] + int(rows[0][3], 16) + at, 3) for at in (0, 1000, 4999)]
    for (offset, bit), damaged in zip(flips, firmcast.judge_damaged(image, flips), strict=True):
        failures.check(damaged["verdict"] == "invalid", f"coreboot image, bit {bit} of 0x{offset:x} flipped: {damaged['text']}")
    return len(files)


def make_image(folder):
    """An image with a file that has a digest, one that has none, and a boot block; and how many files have a digest."""
    cbfstool = sources.tool(folder, "cbfstool")
    image, flash_map = folder / "coreboot.rom", folder / "coreboot.fmap"
    (folder / "coreboot.fmd").write_text(FLASH_MAP)
    dice = random.Random(SEED)
    # More than half of it has a digest, or it would be unknown.
    (folder / "contents").write_bytes(dice.randbytes(80000))
    (folder / "more").write_bytes(dice.randbytes(5000))
    (folder / "boot-block").write_bytes(dice.randbytes(0x7FF0) + b"\xe9\x00\x80" + b"\x90" * 13)
    run(sources.tool(folder, "fmaptool"), folder / "coreboot.fmd", flash_map)
    image.unlink(missing_ok=True)
    run(cbfstool, image, "create", "-M", flash_map, "-r", "COREBOOT")
    add = lambda *options: run(cbfstool, image, "add", "-r", "COREBOOT", *options)
    add("-f", folder / "contents", "-n", "checked", "-t", "raw", "-A", "sha256")
    add("-f", folder / "more", "-n", "unchecked", "-t", "raw")
    add("-f", folder / "boot-block", "-n", "bootblock", "-t", "bootblock", "-b", "-0x8000")
    run(cbfstool, image, "add-master-header", "-r", "COREBOOT")
    return image, 1
