"""How fast one core seals and sends a stream over a virtual cable: payload in Gbit/s, by how datagrams come to the kernel."""

import json
import os
import statistics

from lab import binaries
from lab.shell import run

from .network import BROADCAST, Star

# Measurements of each way, by turns.
ROUNDS = int(os.environ.get("BENCH_SENDINGS", "9"))
CORE = 0
PORT = 9847
GOAL_GBIT_S = 5

# How the program hands datagrams over, and whether the cable takes pieces whole.
WAYS = {
    "pieces, whole over the cable": ("pieces", True),
    "pieces, cut by the kernel": ("pieces", False),
    "one by one (sendmmsg)": ("single", False),
}


def measure(report):
    """Nobody listens at the other end."""
    program = binaries.send_rate()
    results = {name: [] for name in WAYS}
    with Star() as star:
        for _ in range(ROUNDS):
            for name, (how, whole) in WAYS.items():
                star.set_whole_pieces(whole)
                command = star.at_sender("taskset", "-c", CORE, program, how, f"{BROADCAST}:{PORT}")
                results[name].append(json.loads(run(*command)))
    for name, rows in results.items():
        median = {figure: statistics.median(row[figure] for row in rows) for figure in rows[0]}
        report.row(**{
            "way": name,
            "Gbit/s": median["gbit_per_s"],
            "Gbit per processor second": median["gbit_per_processor_s"],
            "system calls": median["calls"],
        })
    report.note(f"medians of {ROUNDS} by turns, of 5 times 64 MiB each; goal: {GOAL_GBIT_S} Gbit/s")
    report.note("the kernel's work until the datagram is dropped behind the cable counts as the sender's")
