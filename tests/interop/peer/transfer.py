"""Both sides of a transfer (docs/PROTOCOL.md, sections "Broadcast datagrams" and "Transfer")."""

import struct

from cryptography.exceptions import InvalidTag

from . import datagrams, erasure

RANGES_MAX = 132


class Geometry:
    def __init__(self, payload_size, fragment_size, fec_scheme=0):
        self.payload_size, self.fragment_size, self.fec_scheme = payload_size, fragment_size, fec_scheme
        self.sources = -(-payload_size // fragment_size)
        self.block_sources = self.cut()
        self.blocks = len(self.block_sources)

    def cut(self):
        """How many source fragments each block has."""
        most = max(erasure.BLOCK_SOURCES_MAX[self.fec_scheme], -(-self.sources // erasure.BLOCKS_MAX))
        if self.fec_scheme == 0:
            blocks = -(-self.sources // most)
            return [len(range(block, self.sources, blocks)) for block in range(blocks)]
        blocks = [min(most, self.sources - start) for start in range(0, self.sources, most)]
        if 1 < len(blocks) < erasure.BLOCKS_MAX and blocks[-1] > most // 2:
            blocks[-1:] = [most // 2, blocks[-1] - most // 2]
        return blocks

    def source_count(self, block):
        return self.block_sources[block]

    def index(self, block, number):
        """Which of the payload's source fragments this is."""
        if self.fec_scheme == 0:
            return number * self.blocks + block
        return sum(self.block_sources[:block]) + number

    def repair_count(self, block):
        return erasure.repair_count(self.source_count(block), self.fec_scheme)

    def fragment_count(self, block):
        return self.source_count(block) + self.repair_count(block)

    def has(self, block, number):
        return block < self.blocks and number < self.fragment_count(block)


class Receiver:
    def __init__(self, parameters, fec_scheme=0):
        self.campaign = parameters["campaign"]
        self.geometry = Geometry(parameters["payload size"], parameters["fragment size"], fec_scheme)
        self.group = datagrams.Group(int(self.campaign, 16), bytes.fromhex(parameters["group key"]))
        self.held = [{} for _ in range(self.geometry.blocks)]
        self.counts = dict.fromkeys(["useful", "corrupt", "duplicate", "foreign", "out of range"], 0)
        self.last_round, self.said_complete = 0, False

    def handle(self, datagram):
        """Takes a broadcast; returns the answer to a status request that wants one."""
        if len(datagram) < 28 or struct.unpack(">I", datagram[4:8])[0] != self.group.low:
            self.counts["foreign"] += 1
            return None
        try:
            kind, block, number, data = self.group.open(datagram)
        except InvalidTag:
            self.counts["corrupt"] += 1
            return None
        if kind == datagrams.STATUS_REQUEST:
            return self.take_request(number, data)
        if not self.geometry.has(block, number) or len(data) != self.geometry.fragment_size:
            self.counts["out of range"] += 1
        elif number in self.held[block] or self.lacks(block) == 0:
            self.counts["duplicate"] += 1
        else:
            self.counts["useful"] += 1
            self.held[block][number] = data
        return None

    def take_request(self, round_number, data):
        _window, _sent, flags = struct.unpack(">III", data)
        if round_number <= self.last_round:
            return None
        self.last_round = round_number
        if self.is_complete() and self.said_complete and not flags & 1:
            return None
        self.said_complete = self.is_complete()
        return self.status(round_number)

    def lacks(self, block):
        return self.geometry.source_count(block) - len(self.held[block])

    def is_complete(self):
        return not any(self.lacks(block) for block in range(self.geometry.blocks))

    def status(self, round_number):
        counts = [self.lacks(block) for block in range(self.geometry.blocks)]
        ranges = self.missing_ranges()
        form, entries = (0, counts) if ranges is None else (1, ranges)
        return {"campaign": self.campaign, "round": round_number, "missing": sum(counts), "form": form,
                "entries": entries} | self.counts

    def missing_ranges(self):
        """Returns the missing source fragments, unless a repair fragment stands for one or they are too many."""
        ranges = []
        for block, held in enumerate(self.held):
            count = self.geometry.source_count(block)
            if any(number >= count for number in held) and self.lacks(block):
                return None
            for number in range(count):
                if number in held or not self.lacks(block):
                    continue
                if ranges and ranges[-1][0] == block and ranges[-1][1] + ranges[-1][2] == number:
                    ranges[-1][2] += 1
                else:
                    ranges.append([block, number, 1])
        return ranges if len(ranges) <= RANGES_MAX else None

    def payload(self):
        geometry = self.geometry
        restored = [erasure.restore(geometry.source_count(block), geometry.repair_count(block), geometry.fragment_size, held)
                    for block, held in enumerate(self.held)]
        fragments = {geometry.index(block, number): fragment
                     for block, sources in enumerate(restored) for number, fragment in enumerate(sources)}
        return b"".join(fragments[index] for index in range(geometry.sources))[:geometry.payload_size]


class Sender:
    """Sends a payload of one block to one receiver."""

    def __init__(self, parameters, payload):
        self.geometry = Geometry(len(payload), parameters["fragment size"])
        assert self.geometry.blocks == 1
        self.group = datagrams.Group(int(parameters["campaign"], 16), bytes.fromhex(parameters["group key"]))
        size = self.geometry.fragment_size
        self.sources = [payload[at:at + size].ljust(size, b"\0") for at in range(0, len(payload), size)]
        self.next_repair, self.round, self.sent = len(self.sources), 0, 0

    def fragment(self, number):
        self.sent += 1
        known = number < len(self.sources)
        repairs = self.geometry.repair_count(0)
        data = self.sources[number] if known else erasure.repair_fragment(self.sources, repairs, number - len(self.sources))
        return self.group.fragment(0, number, data)

    def first_pass(self):
        return map(self.fragment, range(len(self.sources)))

    def repairs(self, count):
        """So many fragments that the receiver has not seen."""
        for _ in range(count):
            assert self.geometry.has(0, self.next_repair), "the repair fragments are used up"
            yield self.fragment(self.next_repair)
            self.next_repair += 1

    def request(self, window_ms=100):
        self.round += 1
        return self.group.status_request(self.round, window_ms, self.sent, 0)
