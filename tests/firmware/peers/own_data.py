"""Where boards keep their own data, as UEFITool and psptool find it: variables of UEFI, and what AMD's firmware writes itself."""

import re
import struct
from pathlib import Path

from lab import own_data, packages
from lab.shell import run

from . import sources

AMD_BYTES = 16 << 20
STORES = ("NVAR store", "VSS store", "VSS2 store", "FTW store", "NVAR entry")
# The names of psptool for what the layout has under these names.
AMD_NAMES = {"PSP_NV_DATA": "psp-nvram", "APOB_NV_COPY": "apob-nv"}


def check(folder, firmcast, images, failures):
    """Every image that UEFITool can read, one of AMI's kind, and one of AMD's; returns how many were compared."""
    packages.install("uefitool-cli")
    ami = folder / "ami.rom"
    chip = own_data.image("programs", "data", b"\x90" * 0x40000)
    # The BIOS alone: UEFITool ends with the descriptor, and the map is of the whole chip.
    ami.write_bytes(chip[own_data.ENGINE.stop : own_data.MAP.start] + b"\xff" * 0x1000 + chip[own_data.MAP.stop :])
    compared = 0
    for path in (ami, *images):
        theirs = variable_volumes(folder, path)
        if theirs is None:
            continue
        compared += 1
        ours = [(r["offset"], r["length"]) for r in regions(firmcast, path) if r["kind"] == "variable-store"]
        failures.check(ours == theirs, f"{path.name}: variable stores {ours}, UEFITool has {theirs}")
    failures.check(variable_volumes(folder, ami) == [(0, 0x10000), (0x10000, 0x10000)], "UEFITool finds both stores of AMI's kind")
    return compared + check_amd(folder, firmcast, failures)


def regions(firmcast, path):
    """The layout; none where it contradicts itself."""
    layout = firmcast.describe(path)["layout"]
    return layout if isinstance(layout, list) else []


def variable_volumes(folder, path):
    """Place and length of each volume with variables in UEFITool's report; none when it makes no report."""
    copy = folder / "uefitool.rom"
    report = Path(f"{copy}.report.txt")
    copy.write_bytes(path.read_bytes())
    report.unlink(missing_ok=True)
    run("sh", "-c", f"UEFIExtract '{copy}' report >/dev/null 2>&1 || true")
    if not report.exists():
        return None
    found, volume = [], None
    for line in report.read_text(errors="replace").splitlines()[1:]:
        kind, _, base, size, _, name = (field.strip() for field in line.split("|", 5))
        if kind == "Volume" and base != "N/A":
            volume = (int(base, 16), int(size, 16))
        elif volume and (kind in STORES or name.endswith("| NVAR store")) and volume not in found:
            found.append(volume)
    return found


def check_amd(folder, firmcast, failures):
    """A chip with the directories of both processors."""
    path = folder / "amd.rom"
    path.write_bytes(amd_image())
    program = sources.add_python(folder, sources.PSPTOOL) / "psptool"
    shown = re.sub(r"\x1b\[[0-9;]*m", "", run(program, "-E", path))
    row = re.compile(r"\|\s*\d+ \| (0x[0-9a-f]+) \| (0x[0-9a-f]+) \|\s*([A-Z0-9_]+)~")
    rows = [(AMD_NAMES.get(name), int(at, 16), int(size, 16)) for at, size, name in row.findall(shown)]
    theirs = sorted(row for row in rows if row[0])
    written = [region for region in regions(firmcast, path) if region["kind"] == "firmware-data"]
    ours = sorted((region["name"], region["offset"], region["length"]) for region in written)
    failures.check(len(theirs) == 2 and ours == theirs, f"AMD: data at {ours}, psptool has {theirs}")
    return 1


def amd_image():
    """16 MiB: the structure, a combo directory, the PSP's, the BIOS's and one that it leads to (coreboot, amdfwtool.h)."""
    chip = bytearray(b"\xff" * AMD_BYTES)

    def put(at, *words):
        chip[at : at + 4 * len(words)] = struct.pack(f"<{len(words)}I", *words)

    def directory(at, cookie, head, *words):
        put(at, int.from_bytes(cookie, "little"), 0, *head, *words)
        put(at + 4, fletcher(bytes(chip[at + 8 : at + 8 + 4 * len(head) + 4 * len(words)])))

    put(0x20000, 0x55AA55AA, 0, 0, 0, 0, 0xFF030000, 0, 0, 0, 0xFFFFFFFF, 0xFF040000)
    directory(0x30000, b"2PSP", (1, 0, 0, 0, 0, 0), 0, 0xBC0A0000, 0x50000, 0x40000000)
    directory(0x50000, b"$PSP", (2, 0), 0x04, 0x20000, 0xFF060000, 0, 0x0B, 0x100, 0xFFFFFFFF, 0)
    directory(0x40000, b"$BHD", (1, 0), 0x70, 0x400, 0xFF041000, 0, 0xFFFFFFFF, 0xFFFFFFFF)
    directory(0x41000, b"$BL2", (1, 0), 0x63, 0x10000, 0xFF080000, 0, 0xFFFFFFFF, 0xFFFFFFFF)
    return bytes(chip)


def fletcher(contents):
    """Fletcher-32 of 16-bit words, the checksum of AMD's directories."""
    low = high = 0xFFFF
    for (word,) in struct.iter_unpack("<H", contents):
        low += word
        high += low
        low = (low & 0xFFFF) + (low >> 16)
        high = (high & 0xFFFF) + (high >> 16)
    low = (low & 0xFFFF) + (low >> 16)
    high = (high & 0xFFFF) + (high >> 16)
    return high << 16 | low
