"""How much of a narrow link a TCP connection keeps beside a stream: `--polite`, and without it."""

import json
import random
import subprocess
import tempfile
import time
from pathlib import Path

from lab import binaries

from . import transfer
from .network import INTERFACE, Star

LINK_MBIT = 100
RECEIVERS = 4
IMAGE_BYTES = 16 * 1024 * 1024
PORT = 5001
# What the link holds back before it drops, in milliseconds: a switch, a cheap router, too large a buffer.
QUEUES_MS = [2, 10, 50]
ALGORITHMS = ["cubic", "bbr"]
SETTLE_S = 1
ALONE_S = 3

# Sends for as long as it runs, and says each 0.1 s how many bytes the other end has (TCP_INFO's tcpi_bytes_acked, 120).
SOURCE = """
import socket, struct, sys, time
connection = socket.socket()
connection.setsockopt(socket.IPPROTO_TCP, 13, sys.argv[3].encode())
connection.connect((sys.argv[1], int(sys.argv[2])))
connection.settimeout(0.02)
block, said = bytes(65536), 0
while True:
    try:
        connection.send(block)
    except TimeoutError:
        pass
    if time.monotonic() - said > 0.1:
        said = time.monotonic()
        acked = struct.unpack_from("Q", connection.getsockopt(socket.IPPROTO_TCP, 11, 192), 120)[0]
        print(said, acked, flush=True)
"""
SINK = """
import socket, sys
listener = socket.create_server(("", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    while connection.recv(1 << 20):
        pass
"""


def measure(report):
    """One row for each queue, each other sender and each manner."""
    program = binaries.transfer_bench()
    with tempfile.TemporaryDirectory(prefix="firmcast-bench-", dir=transfer.MEMORY) as folder, Star(RECEIVERS) as star:
        image = Path(folder) / "image"
        image.write_bytes(random.Random(1).randbytes(IMAGE_BYTES))
        for queue_ms in QUEUES_MS:
            narrow(star, queue_ms)
            for algorithm in ALGORITHMS:
                for polite in [True, False]:
                    firmcast = Polite(program) if polite else transfer.Firmcast(program)
                    columns = beside(star, firmcast, image, algorithm)
                    report.row(**{"queue ms": queue_ms, "beside TCP": algorithm, "polite": "yes" if polite else "no"}, **columns)
        for loss in [0, 10]:
            star.set_loss(loss)
            row = transfer.transfer(Polite(program), star, image, empty(folder), transfer.Scene(RECEIVERS, LINK_MBIT, loss))
            report.row(**{"queue ms": QUEUES_MS[-1], "beside TCP": f"none, {loss} % loss", "polite": "yes", "seconds": row["seconds"]})
    report.note(f"a link of {LINK_MBIT} Mbit/s, which is the cap, too; {IMAGE_BYTES >> 20} MiB to {RECEIVERS} receivers")
    report.note("kept: what TCP carries while the image is sent / what it carries before; goal with --polite: 0.5")


class Polite(transfer.Firmcast):
    """Leaves room."""

    def sender(self, image, scene):
        return [*super().sender(image, scene), "--polite"]


def empty(folder):
    """A new folder in this one."""
    return Path(tempfile.mkdtemp(dir=folder))


def narrow(star, queue_ms):
    """The sender's cable carries LINK_MBIT from now on."""
    limits = ["rate", f"{LINK_MBIT}mbit", "burst", "16k", "latency", f"{queue_ms}ms"]
    subprocess.run(star.at_sender("tc", "qdisc", "replace", "dev", INTERFACE, "root", "tbf", *limits), check=True)


def beside(star, program, image, algorithm):
    """A TCP connection, first alone, then beside the stream; returns the columns."""
    started = []
    with tempfile.TemporaryDirectory(prefix="firmcast-bench-") as folder:
        try:
            outputs = [Path(folder) / str(number) for number in star.receivers]
            for output in outputs:
                output.mkdir()
            started += transfer.start_receivers(program, star, outputs)
            started.append(subprocess.Popen(star.at_receiver(1, "python3", "-c", SINK, PORT)))
            time.sleep(SETTLE_S)
            log = Path(folder) / "tcp"
            with open(log, "w") as stream:
                source = star.at_sender("python3", "-c", SOURCE, star.address(1), PORT, algorithm)
                started.append(subprocess.Popen(source, stdout=stream, stderr=subprocess.DEVNULL))
            time.sleep(SETTLE_S + ALONE_S)
            began = time.monotonic()
            scene = transfer.Scene(RECEIVERS, LINK_MBIT, 0)
            done = subprocess.run(star.at_sender(*program.sender(image, scene)), capture_output=True, timeout=120, check=True)
            ended = time.monotonic()
            time.sleep(0.2)
        finally:
            for process in started:
                process.kill()
                process.wait()
        said = [tuple(map(float, line.split())) for line in log.read_text().splitlines()]
    alone, shared = rate(said, began - ALONE_S, began), rate(said, began, ended)
    return {
        "TCP alone Mbit/s": round(alone, 1),
        "beside Mbit/s": round(shared, 1),
        "kept": round(shared / alone, 2),
        "seconds": round(ended - began, 2),
        "fragments": json.loads(done.stdout)["fragments"],
    }


def rate(said, begin, end):
    """Mbit/s between two times."""
    inside = [entry for entry in said if begin <= entry[0] <= end]
    (first, before), (last, after) = inside[0], inside[-1]
    return (after - before) * 8 / 1e6 / (last - first)
