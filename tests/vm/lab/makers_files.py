"""Files as makers ship firmware: a capsule around the image, and a cabinet with metainfo around that."""

import hashlib
import struct
import uuid

# AMI's capsule; its header is this long.
AMI_CAPSULE, HEADER_BYTES = uuid.UUID("4a3ca68b-7723-48fb-803d-578cc1fec44d"), 0x800
# Most bytes in one block of a cabinet (MS-CAB, CFDATA).
BLOCK_BYTES = 0x8000


def capsule(image):
    """The image behind AMI's header."""
    head = AMI_CAPSULE.bytes_le + struct.pack("<III", HEADER_BYTES, 0x00010001, HEADER_BYTES + len(image))
    return (head + struct.pack("<H", HEADER_BYTES)).ljust(HEADER_BYTES, b"\0") + image


def cabinet(name, payload, version):
    """A cabinet for the lab's servers, stored, with metainfo as LVFS has it (MS-CAB sections 2.2 and 2.3)."""
    files = [("lab.metainfo.xml", metainfo(name, payload, version).encode()), (name, payload)]
    data = b"".join(contents for _, contents in files)
    blocks = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    entries, at = b"", 0
    for file, contents in files:
        entries += struct.pack("<IIHHHH", len(contents), at, 0, 0x5A21, 0, 0x20) + file.encode() + b"\0"
        at += len(contents)
    blocks_at = 44 + len(entries)
    body = b"".join(struct.pack("<IHH", 0, len(block), len(block)) + block for block in blocks)
    size = blocks_at + len(body)
    head = b"MSCF" + struct.pack("<IIIIIBBHHHHH", 0, size, 0, 44, 0, 3, 1, 1, len(files), 0, 1, 0)
    return head + struct.pack("<IHH", blocks_at, len(blocks), 0) + entries + body


def metainfo(name, payload, version):
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<component type="firmware">
  <id>org.firmcast.lab.firmware</id>
  <name>Virtual Server 1</name>
  <developer_name>Firmcast Lab</developer_name>
  <provides><firmware type="flashed">2082b5e0-7a64-478a-b1b2-e3404fab6dad</firmware></provides>
  <releases><release version="{version}" urgency="high">
    <checksum filename="{name}" target="content" type="sha256">{hashlib.sha256(payload).hexdigest()}</checksum>
    <description><p>Made in the lab.</p></description>
  </release></releases>
</component>
"""
