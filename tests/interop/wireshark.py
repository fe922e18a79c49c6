"""Runs tshark with the dissector docs/wireshark/firmcast.lua: on the captures of the other parts, and on datagrams that are wrong."""

import json
import struct
from collections import Counter

from lab import PORT, ROOT, Failed, command, expect
from peer import datagrams

SCRIPT = ROOT / "docs" / "wireshark" / "firmcast.lua"
FOLDER = ROOT / "target" / "interop"
CAPTURES = ["manager", "dead-host", "dead-host-escrow", "dead-host-group", "updated-host"]
VECTORS = ROOT / "docs" / "vectors"
LINKTYPE_IPV4 = 228


def write_capture(path, payloads):
    """A capture of UDP datagrams to the hosts' port."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_IPV4))
        for payload in payloads:
            size = 28 + len(payload)
            address = bytes([10, 0, 0, 1])
            header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, 17, 0, address, address)
            packet = header + struct.pack(">HHHH", 40000, PORT, 8 + len(payload), 0) + payload
            file.write(struct.pack("<IIII", 0, 0, size, size) + packet)


def dissect(capture, *names):
    """Returns the values of these fields for each frame of firmcast."""
    wanted = [word for name in names for word in ("-e", name)]
    said = command("tshark", "-X", f"lua_script:{SCRIPT}", "-r", capture, "-Y", "firmcast", "-T", "fields", *wanted)
    return [line.split("\t") for line in said.splitlines()]


def check_capture(name):
    capture = FOLDER / name / "capture.pcap"
    if not capture.exists():
        raise Failed(f"there is no {capture}: run the part that makes it first")
    frames = dissect(capture, "firmcast.type", "_ws.col.Info", "_ws.malformed", "firmcast.malformed")
    wrong = [frame for frame in frames if any(frame[2:])]
    expect(not wrong, f"malformed datagrams in {capture}: {wrong[:3]}")
    expect(frames, f"no datagram in {capture}")
    return Counter(int(kind) for kind, *_ in frames)


def vector_datagrams():
    session, broadcast = (json.loads((VECTORS / name).read_text()) for name in ("session.json", "broadcast.json"))
    handshake, discovery = session["handshake"], session["discovery"]
    told = [handshake["initiation"], handshake["response"], discovery["request"], discovery["answer"], discovery["request with versions"],
            broadcast["fragment"]["datagram"], broadcast["status request"]["datagram"]]
    told += [transport["datagram"] for transport in handshake["transport"]]
    told += [session["cookie in a session"][name] for name in ("reply", "initiation with the cookie")]
    told += [session["cookie in discovery"][name] for name in ("reply", "request with the cookie")]
    return [bytes.fromhex(text) for text in told]


def spoilt(datagram):
    """Copies of a datagram that no reader accepts. Those that carry sealed bytes to their end may have any length above the least."""
    yield datagram[:1] + bytes([datagrams.FORM + 100]) + datagram[2:]
    yield bytes([99]) + datagram[1:]
    yield datagram[:11]
    if datagram[0] != datagrams.FRAGMENT:
        yield datagram[:2] + b"\0\1" + datagram[4:]
    if datagram[0] not in (datagrams.FRAGMENT, datagrams.TRANSPORT, datagrams.DISCOVERY_ANSWER):
        yield datagram[:-1]
        yield datagram + b"\0"


def check_verdicts():
    good = vector_datagrams()
    wrong = [copy for datagram in good for copy in spoilt(datagram)]
    capture = FOLDER / "verdicts.pcap"
    write_capture(capture, good + wrong)
    frames = dissect(capture, "udp.payload", "firmcast.malformed")
    expect(len(frames) == len(good) + len(wrong), f"{len(frames)} frames of {len(good) + len(wrong)}")
    for number, (payload, verdict) in enumerate(frames):
        is_good = number < len(good)
        expect(is_good == (not verdict), f"{'good' if is_good else 'wrong'}, but not to the dissector: {payload[:80]} {verdict}")
    return len(good), len(wrong)


def run():
    command(ROOT / ".ci" / "need", "tshark", "tshark")
    good, wrong = check_verdicts()
    seen = sum((check_capture(name) for name in CAPTURES), Counter())
    expected = set(range(datagrams.INITIATION, datagrams.COOKIE + 1))
    expect(expected <= set(seen), f"no datagram of type {expected - set(seen)} in the captures")
    return f"{seen.total()} datagrams of {len(seen)} types in the captures, none malformed; all {wrong} spoilt ones found among {good} good"
