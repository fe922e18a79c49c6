"""A managed switch: ports with VLANs, tagged or not, and ports that stay shut until LACP is spoken on them (no fallback).

Frames come from QEMU as datagrams (`-netdev socket,udp=`), one socket for each cable, and go out through TAP devices, one for
each VLAN. The machine that the lab runs on needs no kernel with bonds or VLANs for this. Run as a program: `switch.py FILE`, with
the JSON that `start` writes.
"""

import fcntl
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

SLOW_PROTOCOLS = bytes.fromhex("0180c2000002")
LACP = b"\x88\x09\x01"
VLAN_TAG = b"\x81\x00"
# This switch in LACP: its priority, address and key; then port priority and number.
SYSTEM = bytes.fromhex("8000" "525400770001" "0007" "8000")
# Active, short timeout, aggregating, in sync, collecting, distributing (IEEE 802.1AX, Actor_State).
STATE = 0x3F
IN_SYNC = 0x08
# Three times the interval of short timeouts, and some for a busy machine.
LACP_TIMEOUT_S = 8
FRAME_SIZE_MAX = 65536
ADDRESSES_MAX = 1024


class Cable:
    """One cable of a port, and whether LACP lets frames through."""

    def __init__(self, port, number, here, there):
        self.port, self.number, self.there = port, number, ("127.0.0.1", there)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", here))
        self.socket.setblocking(False)
        self.open_until = 0

    def is_open(self):
        """May frames pass?"""
        return not self.port["lacp"] or time.monotonic() < self.open_until

    def send(self, frame):
        """Towards the server; what cannot leave is lost."""
        try:
            self.socket.sendto(frame, self.there)
        except OSError:
            pass

    def answer_lacp(self, frame):
        """Says what an IEEE 802.1AX partner says, and opens the port while the other side is in sync with it."""
        if len(frame) < 60 or frame[14:17] != LACP[2:] + b"\x01\x01":
            return
        actor, partner = frame[18:36], frame[38:56]
        own = SYSTEM + struct.pack("!H", self.number + 1)
        is_known = partner[:14] == own
        if not is_known:
            # It has begun anew, as another kernel does.
            self.open_until = 0
        elif actor[14] & IN_SYNC:
            if not self.is_open():
                print(f"{self.port['name']}: cable {self.number} speaks LACP", flush=True)
            self.open_until = time.monotonic() + LACP_TIMEOUT_S
        body = b"\x01\x01\x01\x14" + own + bytes([STATE, 0, 0, 0]) + b"\x02\x14" + actor + b"\x03\x10" + bytes(14) + bytes(52)
        self.send(SLOW_PROTOCOLS + SYSTEM[2:8] + LACP[:2] + body)


class Switch:
    """Forwards between ports and the TAP devices of VLANs."""

    def __init__(self, config):
        self.uplinks = {int(vlan): open_tap(name) for vlan, name in config["uplinks"].items()}
        self.ports = config["ports"]
        self.places = {}
        self.selector = selectors.DefaultSelector()
        for vlan, tap in self.uplinks.items():
            self.selector.register(tap, selectors.EVENT_READ, ("uplink", vlan))
        for port in self.ports:
            port["cables"] = [Cable(port, number, *ends) for number, ends in enumerate(port["cables"])]
            for cable in port["cables"]:
                self.selector.register(cable.socket, selectors.EVENT_READ, ("cable", cable))

    def run(self):
        """Forever."""
        while True:
            for key, _ in self.selector.select():
                kind, source = key.data
                try:
                    frame = os.read(key.fd, FRAME_SIZE_MAX) if kind == "uplink" else source.socket.recv(FRAME_SIZE_MAX)
                except OSError:
                    continue
                if kind == "uplink":
                    self.forward(frame, source, None)
                else:
                    self.receive(frame, source)

    def receive(self, frame, cable):
        """Takes a frame of a server."""
        if frame[:6] == SLOW_PROTOCOLS:
            if cable.port["lacp"]:
                cable.answer_lacp(frame)
            return
        is_tagged = frame[12:14] == VLAN_TAG
        vlan = struct.unpack("!H", frame[14:16])[0] & 0xFFF if is_tagged else 0
        # A port takes frames of its own VLAN alone, in its own form.
        if not cable.is_open() or vlan != (cable.port["vlan"] if cable.port["tagged"] else 0):
            return
        if len(self.places) < ADDRESSES_MAX:
            self.places[frame[6:12]] = cable
        self.forward(frame[:12] + frame[16:] if is_tagged else frame, cable.port["vlan"], cable.port)

    def forward(self, frame, vlan, source):
        """Sends an untagged frame on in its VLAN."""
        if source is not None:
            os.write(self.uplinks[vlan], frame)
        known = self.places.get(frame[:6])
        for port in self.ports:
            if port is source or port["vlan"] != vlan or known and known.port is not port:
                continue
            ready = [cable for cable in port["cables"] if cable.is_open()]
            # Where one is in use, as in active-backup, it is where the address was seen last; a broadcast reaches all cables but
            # those of a group, which are one port.
            chosen = [known] if known in ready else ready[:1] if port["lacp"] else ready
            tag = VLAN_TAG + struct.pack("!H", vlan) if port["tagged"] else b""
            for cable in chosen:
                cable.send(frame[:12] + tag + frame[12:])


def open_tap(name):
    """The file of a new TAP device, whose frames are plain Ethernet."""
    tap_without_header, set_interface = 0x1002, 0x400454CA
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, set_interface, struct.pack("16sH22x", name.encode(), tap_without_header))
    return file


def start(network, folder, uplinks, ports):
    """Starts a switch in the lab's network; returns the file in which it says which cables speak LACP.

    `uplinks` has the TAP device for each VLAN; each port is `{"name", "vlan", "tagged", "lacp", "cables"}`, a cable the two UDP
    ports (switch, server).
    """
    config, log = Path(folder) / "switch.json", Path(folder) / "switch.log"
    config.write_text(json.dumps({"uplinks": uplinks, "ports": ports}))
    with open(log, "w") as output:
        command = network.inside("setpriv", "--pdeathsig", "KILL", sys.executable, __file__, config)
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    deadline = time.monotonic() + 30
    for name in uplinks.values():
        while name not in network.run("ip", "-o", "link"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the switch does not start: {log.read_text()}")
            time.sleep(0.1)
    return log


def cable_to_nic(number, ends, mac, model):
    """QEMU's words for a NIC at the other end of a cable."""
    here, there = ends
    netdev = f"socket,id=cable{number},udp=127.0.0.1:{here},localaddr=127.0.0.1:{there}"
    return ("-netdev", netdev, "-device", f"{model},netdev=cable{number},mac={mac},romfile=")


if __name__ == "__main__":
    Switch(json.loads(Path(sys.argv[1]).read_text())).run()
