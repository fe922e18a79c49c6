"""The erasure code (docs/PROTOCOL.md, section "Erasure code"), as the formulas there say it: slow, and short.

A fragment is handled as two long integers: the low bytes of all its symbols, and the high ones.
"""

POLYNOMIAL = 0x1002D
BASIS = [0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012,
         0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E]
ORDER = 65535
PIECE_BYTES = 64
BLOCK_SOURCES_MAX = {0: 49152, 1: 12288}
BLOCKS_MAX = 16
DOUBLED_MAX = 32768
LARGE_REPAIRS = 16384
REPAIRS_MIN = 32


def make_tables():
    """Returns logarithm and power of the generator x, of elements as their coordinates in BASIS."""
    power_of = [0] * 65536
    element = 1
    for exponent in range(ORDER):
        power_of[element] = exponent
        element <<= 1
        if element > 65535:
            element ^= POLYNOMIAL
    elements = [0]
    for base in BASIS:
        elements += [element ^ base for element in elements]
    log, exp = [None] * 65536, [0] * ORDER
    for coordinates in range(1, 65536):
        log[coordinates] = power_of[elements[coordinates]]
        exp[log[coordinates]] = coordinates
    return log, exp


LOG, EXP = make_tables()


def multiply(a, b):
    return 0 if a == 0 or b == 0 else EXP[(LOG[a] + LOG[b]) % ORDER]


def inverse(a):
    return EXP[-LOG[a] % ORDER]


def split(fragment):
    """Returns the low and the high bytes of the symbols of a fragment."""
    low, high = bytearray(), bytearray()
    for at in range(0, len(fragment), PIECE_BYTES):
        piece = fragment[at:at + PIECE_BYTES]
        low += piece[:len(piece) // 2]
        high += piece[len(piece) // 2:]
    return bytes(low), bytes(high)


def join(low, high):
    fragment = bytearray()
    for at in range(0, len(low), PIECE_BYTES // 2):
        fragment += low[at:at + PIECE_BYTES // 2] + high[at:at + PIECE_BYTES // 2]
    return bytes(fragment)


def byte_tables(factor):
    """Four tables: what a low and a high byte, times `factor`, give to the low and the high byte."""
    low, high = [0], [0]
    for bit in range(8):
        low += [value ^ multiply(factor, 1 << bit) for value in low]
        high += [value ^ multiply(factor, 256 << bit) for value in high]
    return [bytes(value >> shift & 255 for value in table) for table in (low, high) for shift in (0, 8)]


class Sum:
    """A sum of fragments times factors."""

    def __init__(self, size):
        self.half, self.low, self.high = size // 2, 0, 0

    def add(self, fragment, factor):
        if factor == 0:
            return
        low, high = split(fragment)
        low_low, low_high, high_low, high_high = byte_tables(factor)
        self.low ^= number(low.translate(low_low)) ^ number(high.translate(high_low))
        self.high ^= number(low.translate(low_high)) ^ number(high.translate(high_high))

    def fragment(self):
        return join(self.low.to_bytes(self.half, "big"), self.high.to_bytes(self.half, "big"))


def number(data):
    return int.from_bytes(data, "big")


def repair_count(sources, fec_scheme):
    """Returns how many repair fragments a block has: by scheme 0 (doubled), or 1 (fitted)."""
    if fec_scheme == 0:
        return max(sources, REPAIRS_MIN) if sources <= DOUBLED_MAX else LARGE_REPAIRS
    width = next_power_of_two(sources)
    while 3 * largest_power_of_two(width - sources) < sources:
        width *= 2
    return max(min(sources, largest_power_of_two(width - sources)), REPAIRS_MIN)


def next_power_of_two(value):
    return 1 << (value - 1).bit_length()


def largest_power_of_two(limit):
    return 1 << limit.bit_length() - 1 if limit else 0


def factor(sources, repairs, source, repair):
    """By what a source is multiplied in the sum that makes a repair fragment."""
    if next_power_of_two(sources) < next_power_of_two(repairs):
        width = next_power_of_two(sources)
        return multiply((width + repair) // width, inverse((width + repair) ^ source))
    width = next_power_of_two(repairs)
    return multiply((width + source) // width, inverse((width + source) ^ repair))


def repair_fragment(sources, repairs, repair):
    total = Sum(len(sources[0]))
    for source, fragment in enumerate(sources):
        total.add(fragment, factor(len(sources), repairs, source, repair))
    return total.fragment()


def restore(count, repairs, size, held):
    """Returns all source fragments from any `count` fragments of a block, by number."""
    missing = [source for source in range(count) if source not in held]
    standing_in = sorted(fragment for fragment in held if fragment >= count)[:len(missing)]
    assert len(standing_in) == len(missing), "not enough fragments"
    rows, sums = [], []
    for repair in standing_in:
        total = Sum(size)
        total.add(held[repair], 1)
        for source in range(count):
            if source in held:
                total.add(held[source], factor(count, repairs, source, repair - count))
        rows.append([factor(count, repairs, source, repair - count) for source in missing])
        sums.append(total.fragment())
    solved = solve(rows, sums, size)
    return [held[source] if source in held else solved[missing.index(source)] for source in range(count)]


def solve(rows, sums, size):
    """Gauss and Jordan; fragments stand on the right."""
    for column in range(len(rows)):
        pivot = next(row for row in range(column, len(rows)) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        sums[column], sums[pivot] = sums[pivot], sums[column]
        scale = inverse(rows[column][column])
        rows[column] = [multiply(value, scale) for value in rows[column]]
        scaled = Sum(size)
        scaled.add(sums[column], scale)
        sums[column] = scaled.fragment()
        for row in range(len(rows)):
            times = rows[row][column]
            if row != column and times:
                rows[row] = [value ^ multiply(times, other) for value, other in zip(rows[row], rows[column])]
                total = Sum(size)
                total.add(sums[row], 1)
                total.add(sums[column], times)
                sums[row] = total.fragment()
    return sums
