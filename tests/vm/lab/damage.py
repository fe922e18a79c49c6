"""Ways in which firmware dies in its flash chip. Each gives the contents of the chip, and where the damage begins."""

from .firmware import ERASE_BLOCK_BYTES, OVMF_VARIABLES_BYTES

# EFI_FIRMWARE_VOLUME_HEADER (PI 1.7 volume 3, 3.2.1): the signature lies here in it, the checksum covers its header.
VOLUME_SIGNATURE = b"_FVH"
VOLUME_SIGNATURE_OFFSET_BYTES = 40
# LZMA's properties, dictionary size and the high half of an uncompressed size that fits 32 bits.
COMPRESSED_BYTES = 64


def main_volume(image):
    """Where the first firmware volume behind the variable store begins."""
    return image.index(VOLUME_SIGNATURE, OVMF_VARIABLES_BYTES) - VOLUME_SIGNATURE_OFFSET_BYTES


def volume_header(image):
    """One byte of the header of the main firmware volume is another."""
    at = main_volume(image) + VOLUME_SIGNATURE_OFFSET_BYTES + 8
    return flipped(image, at, 1), main_volume(image)


def compressed_data(image):
    """A few bytes in the midst of the compressed volume are others, as after a bit error."""
    at = main_volume(image) + 0x80000
    return flipped(image, at, COMPRESSED_BYTES), at


def reset_vector(image):
    """The block with the reset vector is erased: an update was cut off before its last block."""
    at = len(image) - ERASE_BLOCK_BYTES
    return image[:at] + b"\xff" * ERASE_BLOCK_BYTES, at


def erased(image):
    """Nothing is left."""
    return b"\xff" * len(image), 0


def half_of(image, other):
    """The first half is of one build, the second of another."""
    half = len(image) // 2
    return image[:half] + other[half:], half


def flipped(image, at, length):
    """`length` bytes from `at` on are inverted."""
    return image[:at] + bytes(byte ^ 0xFF for byte in image[at : at + length]) + image[at + length :]
