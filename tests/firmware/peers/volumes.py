"""Firmware volumes and files as uefi-firmware (PyPI) finds them."""

import re

from uefi_firmware.uefi import FirmwareFile, FirmwareVolume, calculate_checksum16
from uefi_firmware.utils import sguid

HEADER_FIXED_BYTES = 56
SIGNATURE_OFFSET = 40


def find(image):
    """The volumes of `image` that lie in no other one, in the form of the example `firmware_layout`."""
    found, end = [], 0
    # Its own search takes minutes for 64 MiB.
    for signature in re.finditer(b"_FVH", image):
        start = signature.start() - SIGNATURE_OFFSET
        if start < end or start % 8:
            continue
        volume = FirmwareVolume(image[start:])
        header = image[start : start + getattr(volume, "hdrlen", 0)]
        if not volume.valid_header or len(header) < HEADER_FIXED_BYTES or calculate_checksum16(header) != 0:
            continue
        end = start + volume.size
        found.append({
            "offset": start,
            "length": volume.size,
            "header": volume.hdrlen,
            "guid": sguid(volume.guid).lower(),
            "files": list(files(volume, start)),
        })
    return found


def files(volume, start):
    """The files of a volume. What is in them is not compared, so they are not unpacked."""
    FirmwareFile.process = lambda self: True
    volume.process()
    first = 0
    if volume.exthdroff != 0:
        # The extended header lies in a padding file, which by the specification is none.
        first = volume.exthdroff + volume.exthdrsize
    for file_system in volume.firmware_filesystems:
        offset = volume.hdrlen
        for file in file_system.files:
            if offset >= first:
                yield {"offset": start + offset, "length": file.size, "guid": sguid(file.guid).lower(), "type": file.type}
            offset += (file.size + 7) & ~7
