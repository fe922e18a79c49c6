"""Messages inside sessions, field by field (docs/PROTOCOL.md, sections "Commands" and "Answers").

The layouts stand in tables: a field is a name and a kind. Bytes of a fixed size are written as hex, and so are campaigns.
"""

import struct

NAME_SIZE_MAX = 64
DETAIL_SIZE_MAX = 200
MESSAGE_SIZE_MAX = 1152
PIECES_MAX = 1024

NUMBERS = {"u8": ">B", "u16": ">H", "u32": ">I", "u64": ">Q"}

PARAMETERS = [("campaign", "id"), ("group key", 32), ("payload size", "u32"), ("fragment size", "u16")]
IDENTITY = [
    ("environment", "u8"), ("boot id", 16), ("flash size", "u64"), ("obstacle", "u16"), ("floor", "u64"),
    ("host", "name"), ("vendor", "name"), ("product", "name"), ("BIOS version", "name"), ("flash", "name"),
    ("agent version", "name"), ("obstacle detail", "detail"), ("condition", "u8"), ("doubt", "detail"),
    ("last end", "last end"),
]
LAST_END = [("campaign", "id"), ("reason", "u16"), ("flash", "u8"), ("detail", "detail")]
FRAGMENT_STATUS = [
    ("campaign", "id"), ("round", "u32"), ("missing", "u32"), ("useful", "u32"), ("corrupt", "u32"),
    ("duplicate", "u32"), ("foreign", "u32"), ("out of range", "u32"), ("form", "u8"), ("entries", "entries"),
]
CAMPAIGN = [("campaign", "id")]
# Fields at the end of a message that older versions do not have; nothing is sent for nothing.
LATER = {"accepted": ("u64",), "findings": ("u8", "u8", "u16"), "learned": ("u32", "u32"), "programs": ("u8", "detail")}
ACCEPTED = [("accepted", "later")]
FINDINGS = [("findings", "later")]
LEARNED = [("learned", "later")]
PROGRAMS = [("programs", "later")]
RESCUES = [("rescues", "later")]
FEC_AND_EXCERPT = [("FEC scheme", "later"), ("excerpt", "later")]
LACKING = [("lacking", "later")]

BEGIN = CAMPAIGN + [("reach timeout", "u16"), ("transfer timeout", "u16")] + ACCEPTED

COMMANDS = {
    0x01: ("query", []),
    0x02: ("manifest part", CAMPAIGN + [("total", "u32"), ("offset", "u32"), ("bytes", "rest")]),
    0x03: ("begin", BEGIN),
    0x04: ("join", [("parameters", "parameters"), ("report interval", "u16"), ("family", "u8"), ("group", "address")]
           + FEC_AND_EXCERPT),
    0x05: ("commit", CAMPAIGN),
    0x06: ("release", CAMPAIGN),
    0x07: ("measure", CAMPAIGN),
    0x08: ("commit with escrow", CAMPAIGN + [("rate", "u32"), ("unless broken", "u8")]),
    0x09: ("backup status", FRAGMENT_STATUS),
    0x0A: ("backup stored", CAMPAIGN + [("digest", 32)]),
    0x0B: ("foresee", CAMPAIGN + ACCEPTED),
    0x0C: ("enlist", CAMPAIGN + [("transfer timeout", "u16")]),
    0x0D: ("hold", [("again", "u16"), ("reason", "u16"), ("detail", "detail")]),
    0x0E: ("answer not understood", [("type", "u8")]),
    0x0F: ("begin a drill", BEGIN),
    0x10: ("rehearse", CAMPAIGN + [("rate", "u32")]),
}
ANSWERS = {
    0x81: ("identity", IDENTITY + FINDINGS + LEARNED),
    0x82: ("report", CAMPAIGN + [("phase", "u8"), ("reason", "u16"), ("flash", "u8"), ("done", "u32"), ("total", "u32"),
                                 ("digests", "digests"), ("detail", "detail")] + LACKING),
    0x83: ("manifest held", CAMPAIGN + [("held", "u32")]),
    0x84: ("fragment status", FRAGMENT_STATUS),
    0x85: ("measurement", CAMPAIGN + [("matches", "u8"), ("stable digest", 32), ("boot id", 16), ("BIOS version", "name"),
                                      ("BIOS vendor", "name"), ("detail", "detail")] + PROGRAMS),
    0x86: ("backup offer", [("parameters", "parameters"), ("digest", 32), ("closed", "ranges")]),
    0x87: ("foresight", CAMPAIGN + [("reason", "u16"), ("blocks", "u32"), ("changed blocks", "u32"),
                                    ("typical time", "u32"), ("longest time", "u32"), ("detail", "detail")] + FINDINGS),
    0x88: ("help request", [("wants image", "u8"), ("finding", "u8"), ("offset", "u64"), ("why", "detail"),
                            ("identity", "identity")] + RESCUES),
    0x89: ("command not understood", [("type", "u8")]),
}
# What the two sides of a session say first.
VERSIONS = {0x00: ("caller speaks", [("lowest", "u8"), ("highest", "u8")]), 0x80: ("called speaks", [("lowest", "u8"), ("highest", "u8")])}
MESSAGES = COMMANDS | ANSWERS | VERSIONS
TYPES = {name: kind for kind, (name, _) in MESSAGES.items()}

PHASES = ["idle", "accepted", "refused", "ready", "receiving", "verified", "backing up", "writing", "verifying",
          "restoring", "updated", "failed", "rebooting", "escrow", "drilled"]
NESTED = {"parameters": PARAMETERS, "identity": IDENTITY}


class Malformed(Exception):
    """Bytes that are no message."""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        taken = self.data[self.at:self.at + size]
        if len(taken) < size:
            raise Malformed(f"{size} bytes wanted at {self.at}, {len(taken)} are left")
        self.at += size
        return taken

    def number(self, kind):
        return struct.unpack(NUMBERS[kind], self.take(struct.calcsize(NUMBERS[kind])))[0]

    def text(self, size_max):
        size = self.number("u8")
        if size > size_max:
            raise Malformed(f"a text of {size} bytes, at most {size_max}")
        text = self.take(size).decode()
        if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text):
            raise Malformed("control characters")
        return text

    def optional(self):
        there = self.number("u8")
        if there > 1:
            raise Malformed("an optional part that is neither there nor not")
        return there == 1

    def field(self, kind, before):
        if kind in NUMBERS:
            return self.number(kind)
        if isinstance(kind, int):
            return self.take(kind).hex()
        if kind in NESTED:
            return self.fields(NESTED[kind])
        return getattr(self, "read_" + kind.replace(" ", "_"))(before)

    def fields(self, layout):
        values = {}
        for name, kind in layout:
            if kind != "later":
                values[name] = self.field(kind, values)
            elif self.at < len(self.data):
                values[name] = self.later(name)
        return values

    def later(self, name):
        if name == "accepted":
            return self.number("u64")
        if name in ("rescues", "FEC scheme"):
            return self.number("u8")
        if name == "excerpt" and self.optional():
            return {"payload digest": self.take(32).hex(), "pieces": self.piece_set()}
        if name == "excerpt":
            return None
        if name == "lacking":
            return self.piece_set() if self.optional() else None
        if name == "programs":
            return [self.field(kind, {}) for kind in LATER[name]]
        return [[self.number(kind) for kind in LATER[name]] for _ in range(self.number("u8"))]

    def piece_set(self):
        """Returns how many pieces the image has, and the numbers of those in the set."""
        count = self.number("u16")
        bits = "".join(f"{byte:08b}" for byte in self.take(-(-count // 8)))
        if not 1 <= count <= PIECES_MAX or "1" in bits[count:]:
            raise Malformed("a set of pieces")
        return [count, [number for number, bit in enumerate(bits) if bit == "1"]]

    def read_id(self, _before):
        return self.take(8).hex()

    def read_name(self, _before):
        return self.text(NAME_SIZE_MAX)

    def read_detail(self, _before):
        return self.text(DETAIL_SIZE_MAX)

    def read_rest(self, _before):
        return self.take(len(self.data) - self.at).hex()

    def read_last_end(self, _before):
        return self.fields(LAST_END) if self.optional() else None

    def read_digests(self, _before):
        return [self.take(32).hex(), self.take(32).hex()] if self.optional() else None

    def read_address(self, before):
        return self.take({0: 0, 4: 4, 6: 16}[before["family"]]).hex()

    def read_ranges(self, _before):
        return [[self.number("u32"), self.number("u32")] for _ in range(self.number("u8"))]

    def read_entries(self, before):
        if self.number("u8") != 0:
            raise Malformed("reserved")
        count = self.number("u16")
        if before["form"] == 0:
            entries = [self.number("u16") for _ in range(count)]
            total = sum(entries)
        else:
            entries = [[self.number("u16"), self.number("u32"), self.number("u16")] for _ in range(count)]
            total = sum(length for _, _, length in entries)
        if total != before["missing"]:
            raise Malformed(f"entries add up to {total}, not to {before['missing']}")
        return entries


def write_field(kind, value, fields):
    if kind in NUMBERS:
        return struct.pack(NUMBERS[kind], value)
    if isinstance(kind, int) or kind in ("id", "rest", "address"):
        return bytes.fromhex(value)
    if kind in NESTED:
        return write_fields(NESTED[kind], value)
    if kind in ("name", "detail"):
        text = value.encode()
        return bytes([len(text)]) + text
    if kind == "last end":
        return b"\0" if value is None else b"\1" + write_fields(LAST_END, value)
    if kind == "digests":
        return b"\0" if value is None else b"\1" + bytes.fromhex("".join(value))
    if kind == "ranges":
        return bytes([len(value)]) + b"".join(struct.pack(">II", *pair) for pair in value)
    assert kind == "entries", kind
    entry = ">H" if fields["form"] == 0 else ">HIH"
    entries = [struct.pack(entry, *(one if isinstance(one, list) else [one])) for one in value]
    return struct.pack(">BH", 0, len(value)) + b"".join(entries)


def write_piece_set(count, numbers):
    bits = sum(1 << 8 * -(-count // 8) - 1 - number for number in numbers)
    return struct.pack(">H", count) + bits.to_bytes(-(-count // 8), "big")


def write_later(name, value):
    if value is None or (not value and name not in ("rescues", "FEC scheme", "lacking")):
        return b""
    if name == "excerpt":
        return b"\1" + bytes.fromhex(value["payload digest"]) + write_piece_set(*value["pieces"])
    if name == "lacking":
        return b"\1" + write_piece_set(*value) if value else b"\0"
    if name == "accepted":
        return struct.pack(">Q", value)
    if name in ("rescues", "FEC scheme"):
        return bytes([value])
    if name == "programs":
        return b"".join(write_field(kind, part, {}) for kind, part in zip(LATER[name], value))
    entry = ">" + "".join(NUMBERS[kind][1] for kind in LATER[name])
    return bytes([len(value)]) + b"".join(struct.pack(entry, *part) for part in value)


def write_fields(layout, fields):
    parts = [write_later(name, fields.get(name)) if kind == "later" else write_field(kind, fields[name], fields)
             for name, kind in layout]
    return b"".join(parts)


def emit(name, fields=None, **more):
    """Returns the message of this name."""
    kind = TYPES[name]
    return bytes([kind]) + write_fields(MESSAGES[kind][1], {**(fields or {}), **more})


def parse(message, all_known=False):
    """Returns name and fields. What follows the last field is ignored, unless all of it has to be known."""
    reader = Reader(message)
    kind = reader.number("u8")
    if kind not in MESSAGES:
        raise Malformed(f"a message of type {kind:#x}")
    name, layout = MESSAGES[kind]
    fields = reader.fields(layout)
    if all_known and reader.at != len(message):
        raise Malformed(f"{len(message) - reader.at} bytes behind a {name}")
    return name, fields


def parse_identity(data):
    """Returns the fields of an identity in a discovery answer, and the versions behind them where they are said."""
    reader = Reader(data)
    fields = reader.fields(IDENTITY)
    versions = tuple(reader.take(2)) if reader.at < len(data) else None
    return {**fields, **reader.fields(FINDINGS)}, versions
