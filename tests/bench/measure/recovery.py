"""From the instruction to the new firmware: the stages of an update in the VM lab, and the size of the recovery initramfs."""

import os
import statistics
import tempfile
import time
from pathlib import Path

from lab import binaries
from lab.paths import OUTPUT, PROJECT
from lab.shell import run
from lab.testbed import Lab

from . import phases

BUILDS = 3
# The NIC models of the servers, one update at a time: two machines would share the processors.
NICS = os.environ.get("BENCH_NICS", "virtio-net-pci,e1000e").split(",")


def measure(report):
    """One update for each NIC model, without loss."""
    for nic in NICS:
        with Lab(OUTPUT / f"bench-{nic}") as lab:
            report.row(nic=nic, what="update", **phases.of_update(lab, nic))
            report.row(nic=nic, what="nothing", **phases.of_nothing(lab, nic, with_recovery_image=False))
            report.row(nic=nic, what="nothing, in the recovery image", **phases.of_nothing(lab, nic, with_recovery_image=True))
    kernel = lab.kernel
    for machine in ("this", "all"):
        report.row(file=f"recovery initramfs for {machine} machine(s)", **image(kernel, machine))
    report.row(file="kernel", bytes=kernel.image.stat().st_size)
    report.note(f"kernel {kernel.version}, QEMU without KVM (TCG): a real machine is many times faster")
    report.note("seconds of the machine's own clock, which counts instructions, a nanosecond each; what it waits for takes real time")
    report.note("kexec: to the first word of the recovery kernel; init to ready: to the manager's answer, whose events end the other phases")
    report.note("goal: at most 0.5 s for whatever is firmcast's own in a phase")


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
