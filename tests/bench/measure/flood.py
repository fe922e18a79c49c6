"""An agent under a flood of somebody who has the public keys: how long its manager takes to reach it."""

import json
import os

from lab import binaries
from lab.shell import run

# Datagrams a second.
RATE = int(os.environ.get("BENCH_FLOOD_RATE", "100000"))


def measure(report):
    """Each kind of flood against the released agent, on loopback."""
    for line in run(binaries.flood(), binaries.firmcastd(), RATE).splitlines():
        row = json.loads(line)
        report.row(**{
            "flood": row["kind"],
            "datagrams/s": row["per_second"],
            "calm s": row["calm_s"],
            "longest of 5, s": row["longest_s"],
            "calls": row["calls"],
            "KiB before": row["memory_before_kib"],
            "KiB after": row["memory_after_kib"],
        })
    report.note(f"wanted: {RATE:,} datagrams a second; goal: reached within 5 s, with as much memory as before")
    report.note("sender and agent share the machine's processors; null: not reached within 60 s")
