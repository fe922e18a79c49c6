"""What a real worker and its campaigns hold for each host in flight, and for each host known."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from lab import binaries
from lab.paths import PROJECT
from lab.shell import run


sys.path.append(str(PROJECT / "tests/fleet"))

SEED = 11
# Hosts in flight at once, and hosts that the store knows and earlier campaigns had.
WORLDS = ((10, 0), (int(os.environ.get("BENCH_FLEET_IN_FLIGHT", "300")), 0), (10, 10_000))
LOOK_INTERVAL_S = 0.05
SHOW_INTERVAL_S = 2
PATIENCE_S = 90
# Some of the simulator's hosts are made to fail, and waited for; the peak is before that.
ENOUGH = 0.8
GOALS_KIB = {"in flight": 64, "known": 1}

ROLLOUT = """
name = "winter"
release = "2.0"
hosts = "role=now"
[[wave]]
name = "all"
rest = true
[limits]
in-flight = []
failures = []
"""


def measure(report):
    """Real programs on real sockets; the hosts are the simulator's, with chips of 64 KiB."""
    peaks = []
    for in_flight, known in WORLDS:
        with tempfile.TemporaryDirectory(prefix="firmcast-bench-") as folder, ExitStack() as stack:
            site = Site(Path(folder), stack, in_flight, known)
            worker, campaigns, processor_s, seconds = site.watch()
        peaks.append((worker, campaigns))
        report.row(**{
            "hosts in flight": in_flight, "hosts known": in_flight + known, "worker KiB": worker, "its processes KiB": campaigns,
            "worker's share of a core": f"{processor_s / seconds:.3f}",
        })  # fmt: skip
    few, many, with_known = peaks
    for what, other, hosts in (("in flight", many, WORLDS[1][0] - WORLDS[0][0]), ("known", with_known, WORLDS[2][1])):
        each = [(after - before) / hosts for before, after in zip(few, other)]
        report.row(**{
            "for each host": what, "worker KiB": f"{each[0]:.2f}", "its processes KiB": f"{each[1]:.2f}",
            "goal KiB": GOALS_KIB[what], "met": sum(each) <= GOALS_KIB[what],
        })  # fmt: skip
    report.note("VmHWM of the processes; that of the campaigns, and of the service for dead hosts, is the largest sum of those that ran at a time")


class Site:
    """One site with a worker, and hosts that answer."""

    def __init__(self, folder, stack, in_flight, known):
        from networks import Networks, address
        from programs import CAMPAIGN_OPTIONS, Hosts

        self.folder, self.in_flight = folder, in_flight
        self.state = folder / "fleet"
        run(binaries.simulator(), "sockets", "make", "--seed", SEED, "--hosts", in_flight + known, "--folder", folder)
        networks = Networks()
        stack.callback(networks.close)
        networks.add_hub()
        networks.add_site(1, "a", [address(1, place) for place in range(in_flight)])
        networks.add_worker(1, "a", "a0", 0)
        hosts = Hosts(networks, binaries.simulator(), SEED, 1, "a", 0, in_flight, lambda _: None)
        stack.callback(hosts.close)
        self.write_hosts(address)
        self.fleet("release", "add", folder / "bundle.fcb")
        (folder / "winter.toml").write_text(ROLLOUT)
        self.fleet("rollout", "create", folder / "winter.toml")
        self.fleet("rollout", "start", "winter")
        words = [binaries.fleet(), "--state", self.state, "work", "--site", "a", "--name", "a0", "--key", folder / "manager0.key"]
        words += ["--firmcast", binaries.firmcast(), "--", *CAMPAIGN_OPTIONS]
        self.worker = subprocess.Popen(networks.inside("a0", *words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        stack.callback(self.end)

    def end(self):
        self.worker.kill()
        self.worker.wait()

    def fleet(self, *words):
        return run(binaries.fleet(), "--state", self.state, *words, env={"SUDO_USER": "carl"})

    def write_hosts(self, address):
        """Imports all hosts. Those that do not answer had their campaign before: the worker's inventory has them."""
        earlier = []
        with open(self.folder / "hosts.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow("name key addresses vendor product version site role".split())
            for line in (self.folder / "hosts.txt").read_text().splitlines():
                number, _, key = line.split("\t")
                place, is_now = int(number), int(number) < self.in_flight
                host = {"name": f"host-{number}", "key": key, "address": f"{address(1, place)}:9847"}
                host |= {"vendor": "Simulated", "product": "Board 1"}
                table.writerow([*host.values(), "1.0", "a", "now" if is_now else "before"])
                if not is_now:
                    earlier.append(host)
        self.fleet("hosts", "import", self.folder / "hosts.csv")
        if earlier:
            earlier.sort(key=lambda host: host["name"])
            (self.state / "work").mkdir(mode=0o700)
            text = json.dumps({"form": 1, "hosts": earlier}, indent=2) + "\n"
            (self.state / "work/inventory.json").write_text(text)

    def watch(self):
        """Returns the most KiB of the worker and of its campaigns, and the worker's processor and other seconds."""
        begun = shown = time.monotonic()
        worker = campaigns = 0
        while True:
            worker = max(worker, peak_kib(self.worker.pid))
            campaigns = max(campaigns, sum(peak_kib(child) for child in children(self.worker.pid)))
            now = time.monotonic()
            if now > shown + SHOW_INTERVAL_S:
                shown = now
                rollout = json.loads(self.fleet("rollout", "show", "winter", "--json"))
                if rollout["waves"][0]["attempts"]["confirmed"] >= ENOUGH * self.in_flight:
                    return worker, campaigns, processor_s(self.worker.pid), now - begun
            if now > begun + PATIENCE_S:
                raise RuntimeError(f"too few hosts are confirmed after {PATIENCE_S} s: {rollout['waves']}")
            time.sleep(LOOK_INTERVAL_S)


def children(pid):
    """Campaigns of a worker, as far as they have become that."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        found = [child for task in tasks for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return found


def peak_kib(pid):
    """Nothing for a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")), 0)


def processor_s(pid):
    """What a process has used, in user and system."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
