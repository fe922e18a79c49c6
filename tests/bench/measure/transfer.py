"""16 MiB to many receivers: seconds, bytes on the wire / bytes of the image, and processor time, by loss and program."""

import filecmp
import hashlib
import itertools
import json
import os
import random
import resource
import select
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from lab import binaries

from .network import BROADCAST, INTERFACE, SENDER_ADDRESS, Star

IMAGE_BYTES = int(os.environ.get("BENCH_IMAGE_MIB", "16")) * 1024 * 1024
RECEIVERS = int(os.environ.get("BENCH_RECEIVERS", "8"))
# 0: as fast as the sender can.
RATE_MBIT = int(os.environ.get("BENCH_RATE_MBIT", "100"))
UNCAPPED_MBIT = 100_000
# Transfers by each program, by turns; udpcast has one.
ROUNDS = int(os.environ.get("BENCH_TRANSFERS", "9"))
# Percent, at each receiver on its own.
LOSSES = [int(loss) for loss in os.environ.get("BENCH_LOSS", "0,1,5,10,20").split(",") if loss]
GOAL = 1.06
# No program waits for a disk.
MEMORY = "/dev/shm"
LIMIT_S = 60


class Scene(NamedTuple):
    """Where a transfer happens."""

    receivers: int
    rate_mbit: int
    loss: int


# Fast networks, besides the cap and the losses that the environment says.
FAST = [Scene(4, 800, 10), Scene(4, 0, 0)]
SETTLE_S = 1
SENDER_PORT, RECEIVER_PORT = 9848, 9847
RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024


def measure(report):
    """Every program with every loss. What a program brings does not count unless all receivers hold the very image."""
    programs = [Firmcast(binaries.transfer_bench()), Uftp(), Udpcast()]
    names = os.environ.get("BENCH_PROGRAMS", "firmcast,uftp,udpcast").split(",")
    programs = [program for program in programs if program.name in names]
    scenes = [Scene(RECEIVERS, RATE_MBIT, loss) for loss in LOSSES]
    if os.environ.get("BENCH_FAST", "1") == "1":
        scenes += FAST
    with tempfile.TemporaryDirectory(prefix="firmcast-bench-", dir=MEMORY) as folder:
        image = Path(folder) / "image"
        # The same image each time; it cannot be compressed.
        image.write_bytes(random.Random(1).randbytes(IMAGE_BYTES))
        for receivers, group in itertools.groupby(scenes, lambda scene: scene.receivers):
            with Star(receivers) as star:
                star.part_switch_from_sender()
                for scene in group:
                    by_turns(report, programs, scene, star, image)
    report.note(f"random loss at each receiver; goal: {GOAL} / (1 - loss); cap 0: as fast as the sender can")
    report.note(f"medians of {ROUNDS} transfers by turns, of those that were complete; udpcast has one")
    report.note("limit: bytes x 8 / (cap x (1 - loss))")
    report.note("CPU: user and system time of the sender, and of a receiver on average until the sender's end, in seconds")
    report.note("wire: Ethernet frames as the sender's interface counts them, handshakes and questions included")
    report.note(f"seconds: from the start of the sender to its end; without a number: stopped after {LIMIT_S} s")
    report.note("stream seconds: from firmcast's first fragment to the last host's word that it has enough of them")


def by_turns(report, programs, scene, star, image):
    """Transfers by all programs; one row for each program."""
    star.set_loss(scene.loss)
    results = {program.name: [] for program in programs}
    for number in range(ROUNDS):
        for program in [program for program in programs if number == 0 or program.name != "udpcast"]:
            place = image.parent / f"{program.name}-{number}"
            place.mkdir()
            results[program.name].append(transfer(program, star, image, place, scene))
            shutil.rmtree(place)
    where = {"receivers": scene.receivers, "cap": scene.rate_mbit, "loss %": scene.loss}
    for name, rows in results.items():
        report.row(**where, program=name, **medians(rows))


def medians(rows):
    """The columns of many transfers by one program as one row."""
    done = [row for row in rows if row["seconds"] is not None]
    figures = ("wire/image", "seconds", "stream seconds", "sender CPU", "receiver CPU")
    typical = {}
    for figure in figures:
        values = [row[figure] for row in done if row[figure] is not None]
        typical[figure] = round(statistics.median(values), 3) if values else None
    return {**rows[0], **typical, "complete": f"{len(done)}/{len(rows)}"}


def transfer(program, star, image, place, scene):
    """One transfer; returns its columns."""
    outputs = [place / str(number) for number in star.receivers]
    for output in outputs:
        output.mkdir()
    try:
        receivers = start_receivers(program, star, outputs, image)
        time.sleep(SETTLE_S)
        before, began = (star.sent_bytes(), star.answered_bytes()), time.monotonic()
        log = place / "sender.log"
        with open(log, "w") as stream:
            sender = subprocess.Popen(
                star.at_sender(*program.sender(image, scene)), stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
            )
        finished, sender_cpu = wait(sender)
        seconds = time.monotonic() - began
        receiver_cpu = statistics.mean(cpu_seconds(process.pid) for process in receivers)
        sent, answered = star.sent_bytes() - before[0], star.answered_bytes() - before[1]
    finally:
        end(receivers)
    complete = sum(holds(program.output(output, image), image) for output in outputs)
    all_well = finished and complete == len(outputs)
    return {
        "complete": f"{complete}/{len(outputs)}",
        "wire/image": round(sent / IMAGE_BYTES, 4),
        "goal": round(GOAL / (1 - scene.loss / 100), 4),
        "seconds": round(seconds, 3) if all_well else None,
        "limit": round(IMAGE_BYTES * 8 / (scene.rate_mbit * 1e6 * (1 - scene.loss / 100)), 3) if scene.rate_mbit else None,
        "sender CPU": round(sender_cpu, 3),
        "receiver CPU": round(receiver_cpu, 3),
        "answers KiB": answered // 1024,
        "stream seconds": program.stream_seconds(log) if all_well else None,
    }


def start_receivers(program, star, outputs, image):
    """One in each receiver's namespace."""
    started = []
    for number, output in zip(star.receivers, outputs):
        with open(output.parent / f"receiver-{number}.log", "w") as log:
            command = star.at_receiver(number, *program.receiver(number, output, image))
            started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
    return started


def end(receivers):
    """Tells them to end, whereupon firmcast's write what they hold in memory."""
    for process in receivers:
        process.terminate()
    for process in receivers:
        try:
            process.wait(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait(sender):
    """Whether the sender ended well in time, and its processor time. Popen.wait() with a limit would look every 50 ms only."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    handle = os.pidfd_open(sender.pid)
    try:
        in_time = bool(select.select([handle], [], [], LIMIT_S)[0])
    finally:
        os.close(handle)
    if not in_time:
        sender.kill()
    finished = sender.wait() == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return finished, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_seconds(pid):
    """User and system time of a process that runs (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sha256(file):
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def holds(file, image):
    """Whether a receiver holds the image."""
    return file.exists() and filecmp.cmp(file, image, shallow=False)


class Firmcast:
    """Its receivers are there and wait for a call, as agents do."""

    name = "firmcast"

    def __init__(self, program):
        self._program = program

    def sender(self, image, scene):
        return [
            self._program, "send", "--listen", f"{SENDER_ADDRESS}:{SENDER_PORT}",
            "--broadcast", f"{BROADCAST}:{RECEIVER_PORT}", "--first", f"{Star.address(1)}:{RECEIVER_PORT}", "--hosts", scene.receivers,
            "--rate", scene.rate_mbit or UNCAPPED_MBIT, "--file", image,
        ]  # fmt: skip

    def receiver(self, number, output, image):
        return [
            self._program, "receive", "--listen", f"0.0.0.0:{RECEIVER_PORT}",
            "--number", number, "--digest", sha256(image), "--output", output / "image",
        ]  # fmt: skip

    def output(self, folder, _image):
        return folder / "image"

    def stream_seconds(self, log):
        """From the first fragment until all receivers said that they have enough."""
        return json.loads(log.read_text())["complete_s"]


class Uftp:
    """As its manual says, with the same cap and the largest buffers."""

    name = "uftp"

    def sender(self, image, scene):
        rate_kbit = scene.rate_mbit * 1000 or -1
        return ["uftp", "-R", rate_kbit, "-I", INTERFACE, "-B", RECEIVE_BUFFER_BYTES, image]

    def receiver(self, number, output, image):
        # Its identity follows from its address.
        return ["uftpd", "-d", "-q", "-I", INTERFACE, "-B", RECEIVE_BUFFER_BYTES, "-D", output]

    def output(self, folder, image):
        return folder / image.name

    def stream_seconds(self, _log):
        return None


class Udpcast:
    """Starts when all receivers have called."""

    name = "udpcast"

    def sender(self, image, scene):
        return [
            "udp-sender", "--interface", INTERFACE, "--file", image, "--min-receivers", scene.receivers, "--nokbd",
            "--max-bitrate", f"{scene.rate_mbit or UNCAPPED_MBIT}m", "--no-progress",
        ]  # fmt: skip

    def receiver(self, number, output, image):
        return [
            "udp-receiver", "--interface", INTERFACE, "--file", output / "image", "--nokbd", "--no-progress",
            "--rcvbuf", RECEIVE_BUFFER_BYTES,
        ]  # fmt: skip

    def output(self, folder, _image):
        return folder / "image"

    def stream_seconds(self, _log):
        return None
