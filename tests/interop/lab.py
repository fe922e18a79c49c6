"""Two network namespaces with a cable between them, and the real programs in one of them."""

import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 60
PREFIX = "firmcast-interop-"
CLONE_NEWNET = 0x40000000
DATAGRAM_MAX = 65535
LINKTYPE_ETHERNET = 1
ETH_P_ALL = 3
CAPTURE_BUFFER_BYTES = 16 << 20
PORT = 9847
MANAGER_PORT = 9848
REAL, OURS = "10.111.0.1", "10.111.0.2"
BROADCAST = "10.111.0.255"


class Failed(Exception):
    """What the real program did otherwise than docs/PROTOCOL.md says."""


def expect(holds, what):
    if not holds:
        raise Failed(what)


def command(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def program(name):
    """The program that is in the environment (FIRMCASTD, FIRMCAST), or the debug build."""
    stated = os.environ.get(name.upper())
    if stated:
        return Path(stated)
    return ROOT / "target" / "debug" / name


def build():
    if not (os.environ.get("FIRMCASTD") and os.environ.get("FIRMCAST")):
        command(ROOT / "tests/programs")


class Cable:
    """The namespaces `real` and `ours`. This process is in `ours` from here on, until `close`."""

    def __init__(self, folder):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.real, self.ours = (f"{PREFIX}{os.getpid()}-{side}" for side in ("real", "ours"))
        self.processes = []
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        for tool, package in (("ip", "iproute2"), ("ethtool", "ethtool")):
            command(ROOT / ".ci" / "need", tool, package)
        clean_up()
        for name in (self.real, self.ours):
            command("ip", "netns", "add", name)
            command("ip", "-n", name, "link", "set", "lo", "up")
        command("ip", "-n", self.real, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", self.ours)
        for name, address in ((self.real, REAL), (self.ours, OURS)):
            command("ip", "-n", name, "address", "add", f"{address}/24", "broadcast", BROADCAST, "dev", "cable")
            command("ip", "-n", name, "link", "set", "cable", "up")
        # What is captured are the datagrams as they arrive, not several in one piece.
        command("ip", "netns", "exec", self.real, "ethtool", "-K", "cable", "tx-udp-segmentation", "off")
        enter(f"/run/netns/{self.ours}")
        self.capture = Capture("cable", folder / "capture.pcap")

    def close(self):
        self.capture.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(PATIENCE_S)
        setns(self.home)
        for name in (self.real, self.ours):
            command("ip", "netns", "delete", name)

    def start(self, log, *words):
        """Starts a program beside `real`; what it says goes into a file."""
        with open(self.folder / log, "wb") as file:
            process = subprocess.Popen(["ip", "netns", "exec", self.real, *map(str, words)], stdin=subprocess.DEVNULL,
                                       stdout=file, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def log(self, name):
        return (self.folder / name).read_text()

    def events(self, name, kind):
        lines = [line for line in self.log(name).splitlines(keepends=True) if line.startswith("{") and line.endswith("}\n")]
        return [event for event in map(json.loads, lines) if event.get("event") == kind]


def clean_up():
    """Removes what a run left that was killed: its namespaces, with the programs in them."""
    for line in command("ip", "netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(PREFIX).split("-")[0]
        if not name.startswith(PREFIX) or Path(f"/proc/{owner}").exists():
            continue
        for process in command("ip", "netns", "pids", name).split():
            os.kill(int(process), signal.SIGTERM)
        command("ip", "netns", "delete", name)


class Capture:
    """Writes all frames of an interface of this namespace into a file."""

    def __init__(self, interface, path):
        self.file = open(path, "wb")
        self.file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, DATAGRAM_MAX, LINKTYPE_ETHERNET))
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CAPTURE_BUFFER_BYTES)
        self.socket.bind((interface, 0))
        self.socket.settimeout(0.1)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.write, daemon=True)
        self.thread.start()

    def write(self):
        while True:
            try:
                frame = self.socket.recv(DATAGRAM_MAX)
            except TimeoutError:
                if self.over.is_set():
                    return
                continue
            now_us = time.time_ns() // 1000
            self.file.write(struct.pack("<IIII", now_us // 1000000, now_us % 1000000, len(frame), len(frame)) + frame)

    def close(self):
        self.over.set()
        self.thread.join()
        self.file.close()
        self.socket.close()


def setns(descriptor):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def enter(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        setns(descriptor)
    finally:
        os.close(descriptor)


def wait_until(what, is_so):
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end:
            raise Failed(f"waited {PATIENCE_S} s in vain: {what}")
        time.sleep(0.05)


class Socket:
    def __init__(self, port=0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.socket.bind(("", port))

    def send(self, datagram, to):
        self.socket.sendto(datagram, to)

    def join(self, group):
        membership = socket.inet_aton(group) + socket.inet_aton(OURS)
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)

    def receive(self, seconds):
        """Returns a datagram and where it came from, or None."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            return self.socket.recvfrom(DATAGRAM_MAX)
        except TimeoutError:
            return None

    def close(self):
        self.socket.close()
