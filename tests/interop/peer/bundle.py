"""Bundle files (docs/PROTOCOL.md, section "Bundles"), with as much CBOR as they need."""

import hashlib
import struct
import zlib

MAGIC = bytes.fromhex("894643420D0A1A0A")
HEADER_SIZE = 28
CRC_OFFSET = 24
BLOCK_SIZE_MIN = 65536


def head(major, value):
    for size, code in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if value < 24:
            return bytes([major << 5 | value])
        if value < 1 << 8 * size:
            return bytes([major << 5 | code]) + value.to_bytes(size, "big")
    raise ValueError(value)


def encode(value):
    """Deterministic CBOR of what manifests and COSE need."""
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(encode, value))
    pairs = sorted((encode(key), encode(content)) for key, content in value.items())
    return head(5, len(pairs)) + b"".join(key + content for key, content in pairs)


def decode(data, at=0):
    """Returns one value and where it ends."""
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if low >= 24:
        size = 1 << low - 24
        low, at = int.from_bytes(data[at:at + size], "big"), at + size
    if major in (0, 1):
        return (low if major == 0 else -1 - low), at
    if major in (2, 3):
        raw = data[at:at + low]
        return (raw if major == 2 else raw.decode()), at + low
    if major == 6:
        value, at = decode(data, at)
        return ("tag", low, value), at
    values = []
    for _ in range(low * (major - 3)):
        value, at = decode(data, at)
        values.append(value)
    return (values if major == 4 else dict(zip(values[::2], values[1::2]))), at


def to_be_signed(protected, payload):
    return encode(["Signature1", protected, b"", payload])


def split(file):
    """Returns the signed manifest and the payload of a bundle file."""
    magic, version, reserved, manifest_size, payload_size, crc = struct.unpack(">8sHHIQI", file[:HEADER_SIZE])
    assert (magic, version, reserved) == (MAGIC, 1, 0) and len(file) == HEADER_SIZE + manifest_size + payload_size
    assert crc == zlib.crc32(file[:CRC_OFFSET] + file[HEADER_SIZE:])
    return file[HEADER_SIZE:HEADER_SIZE + manifest_size], file[HEADER_SIZE + manifest_size:]


def join(signed, payload):
    start = MAGIC + struct.pack(">HHIQ", 1, 0, len(signed), len(payload))
    rest = signed + payload
    return start + struct.pack(">I", zlib.crc32(start + rest)) + rest


def open_signed(signed, release):
    """Returns the manifest's map if the release key signed it."""
    tagged, end = decode(signed)
    assert end == len(signed) and tagged[:2] == ("tag", 18)
    protected, unprotected, payload, signature = tagged[2]
    headers, _ = decode(protected)
    assert headers == {1: -8, 4: release.kid} and unprotected == {}
    release.key.public_key().verify(signature, to_be_signed(protected, payload))
    manifest, end = decode(payload)
    assert end == len(payload) and encode(manifest) == payload, "not the deterministic encoding"
    return manifest


def sign(manifest, release):
    protected, payload = encode({1: -8, 4: release.kid}), encode(manifest)
    signature = release.key.sign(to_be_signed(protected, payload))
    return b"\xd2" + encode([protected, {}, payload, signature])


def describe(image, regions=((), (), ()), **labels):
    """Returns a manifest for an uncompressed image; `labels` are those that do not follow from it, as l2=..."""
    block = BLOCK_SIZE_MIN
    while len(image) > 1024 * block:
        block *= 2
    digest = hashlib.sha256(image).digest()
    manifest = {
        1: 1, 6: 0, 7: len(image), 8: digest, 9: len(image), 10: digest, 11: block,
        12: b"".join(hashlib.sha256(image[at:at + block]).digest() for at in range(0, len(image), block)),
        16: stable_digest(image, [region for group in regions for region in group]),
    }
    manifest |= {label: list(map(list, group)) for label, group in zip((15, 17, 18), regions) if group}
    return manifest | {int(name[1:]): value for name, value in labels.items()}


def stable_digest(image, regions):
    left, at = hashlib.sha256(), 0
    for _, offset, length in sorted(regions, key=lambda region: region[1]):
        left.update(image[at:offset])
        at = offset + length
    left.update(image[at:])
    return left.digest()
