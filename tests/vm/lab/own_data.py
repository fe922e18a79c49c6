"""A board whose firmware writes to its own chip, as real ones do: variables of AMI's kind, coreboot's caches and logs, a
management engine that the host may not read, and a log that nothing names. Its programs are SeaBIOS, which starts fast."""

import random
import struct
import uuid

from .firmware import BOARD_WITH_ME, descriptor

BOARD = BOARD_WITH_ME
CHIP_BYTES = 4 * 1024 * 1024
ENGINE = range(0x1000, 0x100000)
VARIABLES = (range(0x100000, 0x110000), range(0x110000, 0x120000))
LOG = range(0x120000, 0x130000)
CACHE = range(0x130000, 0x140000)
EVENTS = range(0x140000, 0x144000)
SERIALS = range(0x144000, 0x148000)
MAP = range(0x148000, 0x149000)
PROGRAMS = range(0x200000, 0x280000)

NVAR_FILE = uuid.UUID("cef5b9a3-476d-497f-9fdc-e98143e0422c")
FFS2 = uuid.UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3")
# One variable of AMI's firmware.
ENTRY = b"NVAR" + struct.pack("<HBBB", 0x20, 0xFF, 0xFF, 0xFF) + b"\x83\x00Setup\0" + b"started once"
# What the board's firmware does at each start, here in the server's light OS before anything else: each of these places gets
# a text at the first 32 erased bytes.
AT_EACH_START = f"""\
append() {{
	at=$(($1 / 32))
	while [ "$(dd if=/dev/mtd0 bs=32 skip=$at count=1 2>/dev/null | tr -d '\\377' | wc -c)" -gt 0 ]; do at=$((at + 1)); done
	printf %s "$2" | dd of=/dev/mtd0 bs=32 seek=$at conv=notrunc 2>/dev/null
}}
append {VARIABLES[0].start + 0x80} "NVAR started again, boot order"
append {VARIABLES[1].start + 0x80} "NVAR started again, boot order"
append {LOG.start} "the board was started"
append {EVENTS.start} "event: start"
append {CACHE.start} "memory was trained"
"""


def image(programs, data, bios):
    """A whole chip: `programs` decides what the programs are, `data` what the machine's own data is; `bios` ends the chip."""
    chip = bytearray(b"\xff" * CHIP_BYTES)

    def put(offset, contents):
        chip[offset : offset + len(contents)] = contents

    put(0, descriptor(ENGINE, CHIP_BYTES))
    put(ENGINE.start, random.Random(data).randbytes(len(ENGINE)))
    for store in VARIABLES:
        entries = ENTRY + f"data {data}".encode()
        variables = entries + b"\xff" * (len(store) - 0x100 - len(entries))
        put(store.start, volume(len(store), file(NVAR_FILE, 0x01, variables, checked=False)))
    put(LOG.start, f"log of {data}".encode().ljust(32))
    put(CACHE.start, f"trained by {data}".encode().ljust(32))
    put(EVENTS.start, f"event of {data}".encode().ljust(32))
    put(SERIALS.start, f"serial number {data}".encode())
    code = random.Random(programs).randbytes(len(PROGRAMS) - 0x100)
    put(PROGRAMS.start, volume(len(PROGRAMS), file(uuid.UUID(int=7), 0x01, code, checked=True)))
    put(MAP.start, flash_map())
    put(CHIP_BYTES - len(bios), bios)
    return bytes(chip)


def flash_map():
    """The map of the board, as coreboot has it."""
    areas = {"RW_MRC_CACHE": CACHE, "RW_ELOG": EVENTS, "RO_VPD": SERIALS, "FMAP": MAP}
    head = b"__FMAP__" + struct.pack("<BBQI32sH", 1, 1, (1 << 32) - CHIP_BYTES, CHIP_BYTES, b"FLASH", len(areas))
    return head + b"".join(struct.pack("<II32sH", a.start, len(a), name.encode(), 0) for name, a in areas.items())


def volume(length, contents):
    """A firmware volume with `contents` behind its header (UEFI Platform Initialization, volume 3, section 3.2.1)."""
    blocks = struct.pack("<IIII", length // 0x1000, 0x1000, 0, 0)
    head = bytearray(16) + FFS2.bytes_le + struct.pack("<Q4sIHHHBB", length, b"_FVH", 0x4FEFF, 72, 0, 0, 0, 2) + blocks
    total = sum(word for (word,) in struct.iter_unpack("<H", head))
    head[50:52] = struct.pack("<H", -total & 0xFFFF)
    return bytes(head) + contents + b"\xff" * (length - len(head) - len(contents))


def file(name, kind, contents, checked):
    """A file of a volume (section 3.2.3), with a checksum of its contents if `checked`."""
    size = (24 + len(contents)).to_bytes(3, "little")
    head = bytearray(name.bytes_le + bytes([0, 0, kind, 0x40 if checked else 0]) + size + b"\0")
    head[16] = -sum(head) & 0xFF
    head[17] = -sum(contents) & 0xFF if checked else 0xAA
    head[23] = 0xF8
    return bytes(head) + contents
