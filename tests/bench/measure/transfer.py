"""16 MiB to 8 receivers: bytes on the wire / bytes of the image, and seconds, by loss and program."""

import filecmp
import json
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path

from lab import binaries

from .network import BROADCAST, INTERFACE, SENDER_ADDRESS, Star

IMAGE_BYTES = 16 * 1024 * 1024
RECEIVERS = 8
RATE_MBIT = 100
# Percent, at each receiver on its own.
LOSSES = [int(loss) for loss in os.environ.get("BENCH_LOSS", "0,1,5,10,20").split(",")]
GOAL = 1.06
LIMIT_S = 60
SETTLE_S = 1
SENDER_PORT, RECEIVER_PORT = 9848, 9847
RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024


def measure(report):
    """Every program with every loss. What a program brings does not count unless all receivers hold the very image."""
    programs = [Firmcast(binaries.transfer_bench()), Uftp(), Udpcast()]
    with tempfile.TemporaryDirectory(prefix="firmcast-bench-") as folder, Star(RECEIVERS) as star:
        image = Path(folder) / "image"
        # The same image each time; it cannot be compressed.
        image.write_bytes(random.Random(1).randbytes(IMAGE_BYTES))
        for loss in LOSSES:
            star.set_loss(loss)
            for program in programs:
                place = Path(folder) / f"{program.name}-{loss}"
                place.mkdir()
                report.row(**{"loss %": loss}, program=program.name, **transfer(program, star, image, place, loss))
    report.note(f"{RECEIVERS} receivers, cap {RATE_MBIT} Mbit/s, random loss at each receiver; goal: {GOAL} / (1 - loss)")
    report.note("wire: Ethernet frames as the sender's interface counts them, handshakes and questions included")
    report.note(f"seconds: from the start of the sender to its end; without a number: stopped after {LIMIT_S} s")
    report.note("stream seconds: from firmcast's first fragment to the last host's word that it has enough of them")


def transfer(program, star, image, place, loss):
    """One transfer; returns its columns."""
    outputs = [place / str(number) for number in star.receivers]
    for output in outputs:
        output.mkdir()
    receivers = []
    try:
        if not program.sender_first:
            receivers = start_receivers(program, star, outputs)
            time.sleep(SETTLE_S)
        before, began = (star.sent_bytes(), star.answered_bytes()), time.monotonic()
        log = place / "sender.log"
        with open(log, "w") as stream:
            sender = subprocess.Popen(
                star.at_sender(*program.sender(image)), stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
            )
        receivers = receivers or start_receivers(program, star, outputs)
        finished = wait(sender)
        seconds = time.monotonic() - began
        sent, answered = star.sent_bytes() - before[0], star.answered_bytes() - before[1]
        complete = sum(holds(program.output(output, image), image) for output in outputs)
    finally:
        for process in receivers:
            process.kill()
            process.wait()
    all_well = finished and complete == len(outputs)
    return {
        "complete": f"{complete}/{len(outputs)}",
        "wire/image": round(sent / IMAGE_BYTES, 4),
        "goal": round(GOAL / (1 - loss / 100), 4),
        "seconds": round(seconds, 2) if all_well else None,
        "answers KiB": answered // 1024,
        "stream seconds": program.stream_seconds(log) if all_well else None,
    }


def start_receivers(program, star, outputs):
    """One in each receiver's namespace."""
    started = []
    for number, output in zip(star.receivers, outputs):
        with open(output.parent / f"receiver-{number}.log", "w") as log:
            command = star.at_receiver(number, *program.receiver(number, output))
            started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
    return started


def wait(sender):
    """Whether the sender ended well in time."""
    try:
        return sender.wait(timeout=LIMIT_S) == 0
    except subprocess.TimeoutExpired:
        sender.kill()
        sender.wait()
        return False


def holds(file, image):
    """Whether a receiver holds the image."""
    return file.exists() and filecmp.cmp(file, image, shallow=False)


class Firmcast:
    """The driver; its receivers call the sender, so it has to be there first."""

    name = "firmcast"
    sender_first = True

    def __init__(self, program):
        self._program = program

    def sender(self, image):
        return [
            self._program, "send", "--listen", f"{SENDER_ADDRESS}:{SENDER_PORT}",
            "--broadcast", f"{BROADCAST}:{RECEIVER_PORT}", "--hosts", RECEIVERS, "--rate", RATE_MBIT, "--file", image,
        ]  # fmt: skip

    def receiver(self, number, output):
        return [
            self._program, "receive", "--listen", f"0.0.0.0:{RECEIVER_PORT}",
            "--manager", f"{SENDER_ADDRESS}:{SENDER_PORT}", "--number", number, "--output", output / "image",
        ]  # fmt: skip

    def output(self, folder, _image):
        return folder / "image"

    def stream_seconds(self, log):
        """From the first fragment until all receivers said that they have enough."""
        return json.loads(log.read_text())["complete_s"]


class Uftp:
    """As its manual says, with the same cap and the largest buffers."""

    name = "uftp"
    sender_first = False

    def sender(self, image):
        return ["uftp", "-R", RATE_MBIT * 1000, "-I", INTERFACE, "-B", RECEIVE_BUFFER_BYTES, image]

    def receiver(self, number, output):
        # Its identity follows from its address.
        return ["uftpd", "-d", "-q", "-I", INTERFACE, "-B", RECEIVE_BUFFER_BYTES, "-D", output]

    def output(self, folder, image):
        return folder / image.name

    def stream_seconds(self, _log):
        return None


class Udpcast:
    """Starts when all receivers have called."""

    name = "udpcast"
    sender_first = False

    def sender(self, image):
        return [
            "udp-sender", "--interface", INTERFACE, "--file", image, "--min-receivers", RECEIVERS, "--nokbd",
            "--max-bitrate", f"{RATE_MBIT}m", "--no-progress",
        ]  # fmt: skip

    def receiver(self, number, output):
        return [
            "udp-receiver", "--interface", INTERFACE, "--file", output / "image", "--nokbd", "--no-progress",
            "--rcvbuf", RECEIVE_BUFFER_BYTES,
        ]  # fmt: skip

    def output(self, folder, _image):
        return folder / "image"

    def stream_seconds(self, _log):
        return None
