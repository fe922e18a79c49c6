"""The idle agent: what it holds and whether it ever wakes up, beside uftpd."""

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from lab import binaries
from lab.shell import run, write

from .network import INTERFACE, Star

# Seconds that both are watched.
IDLE_S = float(os.environ.get("BENCH_IDLE_S", "60"))
SETTLE_S = 3
START_PATIENCE_S = 20
GOALS = {"threads": 1, "sockets": "1 UDP", "context switches": 0, "anonymous KiB": 256, "binary bytes": 3 * 1024 * 1024}

AGENT_CONFIG = """\
listen = "0.0.0.0:9847"
host_key = "{folder}/host.key"
trusted_managers = ["{folder}/manager.pub"]
trusted_releases = ["{folder}/release.pub"]
state_dir = "{folder}/state"
"""


def measure(report):
    """Both idle side by side, in one network in which nobody talks."""
    with tempfile.TemporaryDirectory(prefix="firmcast-bench-") as folder, Star(receivers=2) as star:
        agent = start_agent(star, Path(folder))
        uftpd = start_uftpd(star, Path(folder))
        programs = {"firmcastd": (agent, binaries.firmcastd()), "uftpd": (uftpd, Path("/usr/bin/uftpd"))}
        try:
            time.sleep(SETTLE_S)
            before = {name: context_switches(process) for name, (process, _) in programs.items()}
            time.sleep(IDLE_S)
            for name, (process, program) in programs.items():
                report.row(program=name, **figures(process, program, before[name]))
        finally:
            for process, _ in programs.values():
                process.send_signal(signal.SIGTERM)
                process.wait()
    goals = ", ".join(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in GOALS.items())
    report.note(f"watched for {IDLE_S:g} s; goals for firmcastd: {goals}")
    report.note("uftpd is linked dynamically: its file does not hold its libraries, and its PSS shares them with others")


def start_agent(star, folder):
    """The released agent, with a configuration as a host has it."""
    for role in ("manager", "release"):
        run(binaries.firmcast(), "key", "new", "--role", role, "--out", folder / f"{role}.key")
    config = write(folder / "agent.toml", AGENT_CONFIG.format(folder=folder))
    log = folder / "agent.log"
    command = star.at_receiver(1, binaries.firmcastd(), "--config", config, "--foreground")
    return start(command, log, "listens on")


def start_uftpd(star, folder):
    """uftpd in the foreground, receiving into a folder."""
    (folder / "received").mkdir()
    command = star.at_receiver(2, "uftpd", "-d", "-I", INTERFACE, "-D", folder / "received")
    return start(command, folder / "uftpd.log", "Loaded|listening|Listening|interface")


def start(command, log, ready):
    """Starts a program and waits until its log shows `ready`. `ip netns exec` becomes the program, so the pid is its own."""
    with open(log, "w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    end = time.monotonic() + START_PATIENCE_S
    while not re.search(ready, log.read_text()):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RuntimeError(f"`{' '.join(str(word) for word in command)}` does not start:\n{log.read_text()}")
        time.sleep(0.1)
    return process


def figures(process, program, switches_before):
    """What the kernel says of a process."""
    memory = fields(process, "smaps_rollup")
    return {
        "threads": len(os.listdir(f"/proc/{process.pid}/task")),
        "sockets": sockets(process),
        "context switches": context_switches(process) - switches_before,
        "PSS KiB": memory["Pss"],
        "anonymous KiB": memory["Anonymous"],
        "binary bytes": program.stat().st_size,
    }


def fields(process, name):
    """The numbers in a file under /proc that has `name: number` on each line."""
    text = Path(f"/proc/{process.pid}/{name}").read_text()
    return {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE)}


def context_switches(process):
    """Both kinds, of all threads: whatever made the process run is counted."""
    total = 0
    for task in os.listdir(f"/proc/{process.pid}/task"):
        found = fields(process, f"task/{task}/status")
        total += found["voluntary_ctxt_switches"] + found["nonvoluntary_ctxt_switches"]
    return total


def sockets(process):
    """What kinds of sockets the process holds, for example "1 UDP"."""
    kinds = socket_kinds(process)
    held = []
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor))
        if found:
            held.append(kinds.get(found.group(1), "other"))
    return ", ".join(f"{held.count(kind)} {kind}" for kind in sorted(set(held))) or "none"


def socket_kinds(process):
    """Inode -> kind, for all sockets in the network namespace of the process."""
    columns = {"udp": 9, "udp6": 9, "tcp": 9, "tcp6": 9, "raw": 9, "raw6": 9, "unix": 6, "packet": 8, "netlink": 9}
    kinds = {}
    for table, column in columns.items():
        file = Path(f"/proc/{process.pid}/net/{table}")
        for line in file.read_text().splitlines()[1:] if file.exists() else []:
            kinds[line.split()[column]] = table.removesuffix("6").upper()
    return kinds
