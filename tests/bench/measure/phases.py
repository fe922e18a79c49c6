"""Where the time of an update goes, in seconds of the machine's own clock, beside kernels that do nothing."""

import json
import shutil
from datetime import datetime
from pathlib import Path

from lab import binaries
from lab.dead_host import append
from lab.network import MANAGER_INTERFACE
from lab.shell import run
from lab.testbed import OS_IS_UP

from .virtual_clock import VirtualClock

RATE_MBIT = 20
LIMIT_S = 1800
BOOT_LIMIT_S = 600
NOTHING = Path(__file__).parent / "nothing.c"
OS_UP = OS_IS_UP.removeprefix("^")
# What the manager's events call the stages.
PREFLIGHT, ACCEPTED, READY, RECEIVING, VERIFIED, FLASHING, RELEASING, BACK = (
    "preflight", "entering-recovery", "ready", "receiving", "verified", "flashing", "releasing", "back",
)  # fmt: skip


def of_update(lab, nic):
    """Updates one server; returns how long each phase took."""
    monitor = lab.sockets / "monitor"
    server = lab.add_server(lab.firmware.ovmf_old, nic=nic, devices=VirtualClock.devices(monitor))
    lab.boot(server)
    lab.enroll(server)
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    options = ["--host", server.address, "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT]
    with VirtualClock(server, monitor) as clock:
        result = lab.update(bundle, *options, timeout_s=LIMIT_S)
    if result.status != 0:
        raise RuntimeError(f"the update failed:\n{result.output[-3000:]}")
    return phases(clock, [json.loads(line) for line in result.stdout.splitlines()])


def phases(clock, events):
    """Seconds from phase to phase of the only host."""
    at = {event["stage"]: clock.at(seconds(event)) for event in events if event["event"] == "stage"}
    ended = next(clock.at(seconds(event)) for event in events if event["event"] == "result")
    kernel, init = clock.kernel(at[ACCEPTED])
    os_kernel, os_init = clock.kernel(at[RELEASING])
    os_up, _ = clock.said(OS_UP, at[RELEASING])
    return lasting(
        [
            ("preflight and load", at[ACCEPTED]), ("kexec", kernel), ("kernel to init", init), ("init to ready", at[READY]),
            ("join", at[RECEIVING]), ("transfer", at[VERIFIED]), ("commit", at[FLASHING]), ("flash", at[RELEASING]),
            ("reset to kernel", os_kernel), ("OS kernel to init", os_init), ("OS to up", os_up), ("call", at[BACK]), ("measure", ended),
        ],
        since=at[PREFLIGHT],
    )  # fmt: skip


def of_nothing(lab, nic, *, with_recovery_image):
    """The same machine, kernel and OS, and an init that does nothing: with an initramfs of its own, or in the recovery image."""
    monitor = lab.sockets / "monitor-of-nothing"
    files = {"bin/nothing": build(lab), "boot/vmlinuz": lab.kernel.image, "boot/nothing.img": image(lab, with_recovery_image)}
    devices = VirtualClock.devices(monitor)
    server = lab.add_server(lab.firmware.ovmf_old, nic=nic, agent=False, files=files, devices=devices)
    lab.boot(server)
    # As the agent has it: the files were looked at before.
    server.command("cat /boot/* >/dev/null")
    server.mark()
    with VirtualClock(server, monitor) as clock:
        start = "/state/bin/nothing /boot/vmlinuz /boot/nothing.img \"$(cat /proc/cmdline) rdinit=/nothing\" >/dev/console 2>&1"
        server.command(f"(sleep 1; {start}) &")
        lab.wait_for(server, OS_IS_UP, BOOT_LIMIT_S)
    server.power_cut()
    lab.servers.remove(server)
    loading, _ = clock.said("nothing: loading")
    loaded, _ = clock.said("nothing: loaded")
    kernel, init = clock.kernel(loaded)
    reset, _ = clock.said("nothing: init")
    os_kernel, os_init = clock.kernel(reset)
    os_up, _ = clock.said(OS_UP, reset)
    return lasting(
        [
            ("preflight and load", loaded), ("kexec", kernel), ("kernel to init", init), ("init to ready", reset), ("join", None),
            ("transfer", None), ("commit", None), ("flash", None), ("reset to kernel", os_kernel), ("OS kernel to init", os_init),
            ("OS to up", os_up), ("call", None), ("measure", None),
        ],
        since=loading,
    )  # fmt: skip


def seconds(event):
    """When an event was, on this computer."""
    return datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def lasting(ends, since):
    """How long each phase took that has an end; phases follow each other."""
    took = {}
    for name, end in ends:
        took[name] = None if end is None else round(end - since, 2)
        since = since if end is None else end
    return took


def build(lab):
    """The program that does nothing."""
    made = lab.folder / "nothing"
    run("cc", "-static", "-O1", "-o", made, NOTHING)
    return made


def image(lab, with_recovery_image):
    """An initramfs with it."""
    tree, own, made = (lab.folder / f"nothing.{name}" for name in ("tree", "cpio", "img"))
    tree.mkdir(exist_ok=True)
    shutil.copy(build(lab), tree / "nothing")
    run("sh", "-c", f"find . | cpio --quiet -o -H newc -R 0:0 > {own}", cwd=tree)
    append(made, *([binaries.recovery_initramfs(lab.kernel)] if with_recovery_image else []), own)
    return made
