"""1,000 hosts dead at once, in the simulator: memory of the manager, time until all are rescued, bytes sent."""

import json
import os

from lab import binaries
from lab.shell import run

HOSTS = 1000
# Sizes of the chips and images in bytes.
SIZES = [int(size) for size in os.environ.get("BENCH_RESCUE_BYTES", "32768").split(",")]
GOAL_KIB = 64


def measure(report):
    """One power failure for each size."""
    simulator = binaries.simulator()
    for size in SIZES:
        figures = json.loads(run(simulator, "--power-failure", size))
        report.row(**row(figures))
    report.note(f"memory: what the manager's service allocated and did not free, at its peak, image included; goal: {GOAL_KIB} KiB for each host")
    report.note("virtual s: from the power failure until all hosts are repaired; they boot within 20 to 60 s of it")
    report.note("stream: bytes of UDP payload that the manager broadcast / bytes of the image")
    report.note("answers, requests: all else, with handshakes; bytes of UDP payload for each host")


def row(figures):
    """What is shown of one run."""
    hosts, image = figures["hosts"], figures["image_bytes"]
    return {
        "hosts": int(hosts),
        "image bytes": int(image),
        "memory KiB/host": round(figures["memory_bytes"] / hosts / 1024, 1),
        "memory left KiB/host": round(figures["memory_left_bytes"] / hosts / 1024, 1),
        "virtual s": round(figures["virtual_s"], 1),
        "stream/image": round(figures["stream_bytes"] / image, 2),
        "answers/host": round(figures["answers"] / hosts, 1),
        "answer bytes/host": int(figures["answer_bytes_per_host"]),
        "requests/host": round(figures["requests"] / hosts, 1),
        "request bytes/host": int(figures["request_bytes_per_host"]),
        "answers/host, busiest s": int(figures["answers_per_host_and_second_max"]),
        "s": round(figures["elapsed_s"], 1),
    }
