"""From the instruction to the new firmware: the stages of an update in the VM lab, and the size of the recovery initramfs."""

import json
import os
import re
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from lab import binaries
from lab.network import MANAGER_INTERFACE
from lab.paths import OUTPUT, PROJECT
from lab.shell import run
from lab.testbed import Lab

RATE_MBIT = 20
BUILDS = 3
LIMIT_S = 900
# The NIC models of the servers, one update at a time: two machines would share the processors.
NICS = os.environ.get("BENCH_NICS", "virtio-net-pci,e1000e").split(",")
# What the manager's events call them.
PREFLIGHT, ACCEPTED, READY, RECEIVING, VERIFIED, FLASHING, RELEASING = (
    "preflight", "entering-recovery", "ready", "receiving", "verified", "flashing", "releasing",
)  # fmt: skip


def measure(report):
    """One update for each NIC model, without loss."""
    for nic in NICS:
        with Lab(OUTPUT / f"bench-{nic}") as lab:
            report.row(nic=nic, **update(lab, nic))
    kernel = lab.kernel
    for machine in ("this", "all"):
        report.row(file=f"recovery initramfs for {machine} machine(s)", **image(kernel, machine))
    report.row(file="kernel", bytes=kernel.image.stat().st_size)
    report.note(f"kernel {kernel.version}, QEMU without KVM (TCG): a real machine is many times faster")
    report.note("init to ready: what firmcastd adds to the boot of that kernel with an initramfs that does nothing; goal: 0.5 s")
    report.note("seconds between the manager's events; ready: the recovery environment has called the manager after the kexec")


def image(kernel, machine):
    """Size and median building time of the image that firmcast-mkrecovery makes for this machine or for all."""
    seconds_of = []
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "image"
        for _ in range(BUILDS):
            began = time.monotonic()
            run(
                PROJECT / "initramfs/firmcast-mkrecovery", "--firmcastd", binaries.firmcastd(), "--kernel-version", kernel.version,
                "--modules-dir", kernel.root, "--machine", machine, "--output", made,
            )  # fmt: skip
            seconds_of.append(time.monotonic() - began)
        return {"bytes": made.stat().st_size, "build": round(statistics.median(seconds_of), 1)}


def update(lab, nic):
    """Updates one server; returns how long each stage took."""
    server = lab.add_server(lab.firmware.ovmf_old, nic=nic)
    lab.boot(server)
    lab.enroll(server)
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    server.mark()
    options = ["--host", server.address, "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT]
    result = lab.update(bundle, *options, timeout_s=LIMIT_S)
    if result.status != 0:
        raise RuntimeError(f"the update failed:\n{result.output[-3000:]}")
    return stages([json.loads(line) for line in result.stdout.splitlines()]) | boot(server.console_since_mark())


def stages(events):
    """Seconds from stage to stage of the only host."""
    at = {event["stage"]: seconds(event) for event in events if event["event"] == "stage"}
    ended = next(seconds(event) for event in events if event["event"] == "result")
    order = [at[PREFLIGHT], at[ACCEPTED], at[READY], at[RECEIVING], at[VERIFIED], at[FLASHING], at[RELEASING], ended]
    names = ["preflight and load", "kexec to ready", "manifest", "transfer", "commit", "flash", "reboot to confirmed"]
    return {name: round(until - since, 2) for name, since, until in zip(names, order, order[1:])}


def boot(console):
    """Seconds of the recovery kernel's own boot, with this initramfs, and from there to *ready*: what firmcastd adds, with
    the modules that it loads."""
    init = re.search(r"\[ *([0-9.]+)\] Run \S*firmcastd as init process", console)
    ready = re.search(r"\[ *([0-9.]+)\] firmcast: the manager \S+ answers", console[init.end() :])
    return {"kernel to init": float(init[1]), "init to ready": round(float(ready[1]) - float(init[1]), 2)}


def seconds(event):
    """When an event was."""
    return datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
