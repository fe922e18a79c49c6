"""Erases blocks of real firmware, and flips bits in it: what of it is noticed without a record of good firmware."""

import random
from collections import Counter

SEED = 20250101
BLOCK_BYTES = 4096
# So many blocks are erased, and bits flipped, in each image: each takes a look at all of it.
BLOCKS = 100
BITS = 24
# Larger images take longer.
LARGE_BYTES = 16 << 20
BLOCKS_LARGE = 40
BITS_LARGE = 8
# So many of the erased blocks have to be noticed.
NOTICED_PERCENT_MIN = 95


def check(path, seen, firmcast, failures):
    """One image that is valid: a row of the table, or nothing where no volume has files."""
    blocks = blocks_of(path.read_bytes(), seen["volumes"])
    if seen["verdict"]["verdict"] != "valid" or not blocks:
        return None
    is_large = seen["size"] >= LARGE_BYTES
    chance = random.Random(SEED)
    erased = chance.sample(blocks, min(BLOCKS_LARGE if is_large else BLOCKS, len(blocks)))
    bits = [(chance.choice(blocks) + chance.randrange(BLOCK_BYTES), chance.randrange(8)) for _ in range(BITS_LARGE if is_large else BITS)]
    after_erase = Counter(one["verdict"] for one in firmcast.judge_damaged(path, [(block, "erase") for block in erased]))
    after_flip = Counter(one["verdict"] for one in firmcast.judge_damaged(path, bits))
    noticed = len(erased) - after_erase["valid"]
    percent = 100 * noticed / len(erased)
    failures.check(percent >= NOTICED_PERCENT_MIN, f"{path.name}: {percent:.1f} % of the erased blocks noticed, expected {NOTICED_PERCENT_MIN} %")
    return path.name, len(blocks), len(erased), noticed, len(bits), len(bits) - after_flip["valid"]


def blocks_of(image, volumes):
    """Blocks that lie in a volume with files, and are not erased as it is."""
    blank = b"\xff" * BLOCK_BYTES
    blocks = []
    for volume in volumes:
        if volume.get("files"):
            first = -(-volume["offset"] // BLOCK_BYTES) * BLOCK_BYTES
            ends = volume["offset"] + volume["length"] - BLOCK_BYTES
            blocks += [at for at in range(first, ends + 1, BLOCK_BYTES) if image[at : at + BLOCK_BYTES] != blank]
    return blocks


def show(rows):
    """The table, and how many blocks were noticed in all."""
    print(f"{'image':34} {'blocks':>7} {'erased':>7} {'noticed':>8} {'bits':>5} {'noticed':>8}")
    for name, blocks, erased, noticed, bits, noticed_bits in rows:
        print(f"{name:34} {blocks:7} {erased:7} {noticed:8} {bits:5} {noticed_bits:8}")
    erased, noticed = (sum(row[column] for row in rows) for column in (2, 3))
    print(f"{noticed} of {erased} erased blocks are noticed without a record ({100 * noticed / max(erased, 1):.1f} %)", flush=True)
