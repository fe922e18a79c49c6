"""A network for each site with its hosts, one that all workers reach the store through, and a namespace for each of them."""

import os
import signal
import subprocess
import time
from pathlib import Path

PREFIX = "firmcast-fleet-"
STORE = "10.200.0.1"
# Of each site's network.
FIRST_HOST = 0x0101
# States of a bridge's port, as the kernel numbers them (BR_STATE_* in linux/if_bridge.h).
PORT_DISABLED, PORT_FORWARDING = 0, 3


class Failed(Exception):
    """What did not go as it must."""


def command(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, words))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Networks:
    """The namespaces `hub`, one for each site, and those of its workers."""

    def __init__(self):
        clean_up()
        self.names = []
        # Which sites were cut off, since when and until when, in seconds since 1970.
        self.cuts = []
        self.ports = {}

    def namespace(self, name):
        """The full name of a namespace."""
        return f"{PREFIX}{os.getpid()}-{name}"

    def inside(self, name, *words):
        """A command line that runs in a namespace."""
        return ["ip", "netns", "exec", self.namespace(name), *map(str, words)]

    def add_hub(self):
        self._add("hub", "br0", [f"{STORE}/16"])

    def add_site(self, number, site, hosts):
        """A site whose hosts have these addresses, all in one process's namespace."""
        self.ports[site] = []
        self._add(site, "lan", [f"{address}/16 broadcast {broadcast(number)}" for address in hosts])

    def add_worker(self, number, site, worker, place):
        """A machine in a site's network and in that of the store."""
        name = self._create(worker)
        for far, port, device, address in (
            (site, f"w{place}", "lan", f"{base(number)}.0.{10 + place}/16 broadcast {broadcast(number)}"),
            ("hub", worker, "wan", f"10.200.{number}.{10 + place}/16"),
        ):
            bridge = "lan" if far == site else "br0"
            command("ip", "-n", name, "link", "add", device, "type", "veth", "peer", "name", port, "netns", self.namespace(far))
            command("ip", "-n", self.namespace(far), "link", "set", port, "master", bridge, "up")
            command("ip", "-n", name, "address", "add", *address.split(), "dev", device)
            command("ip", "-n", name, "link", "set", device, "up")
        self.ports[site].append(worker)

    def cut(self, site):
        """From now on nothing passes between the site's workers and the store; no cable is seen to be loose."""
        self.cuts.append([site, time.time(), float("inf")])
        self._set_ports(site, PORT_DISABLED)

    def mend(self, site):
        self._set_ports(site, PORT_FORWARDING)
        for cut in self.cuts:
            if cut[0] == site:
                cut[2] = min(cut[2], time.time())

    def was_cut(self, site, begin, end):
        return any(cut == site and since < end and begin < until for cut, since, until in self.cuts)

    def _set_ports(self, site, state):
        for port in self.ports[site]:
            command(*self.inside("hub", "bridge", "link", "set", "dev", port, "state", state))

    def _create(self, name):
        full = self.namespace(name)
        command("ip", "netns", "add", full)
        self.names.append(full)
        command("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def _add(self, name, bridge, addresses):
        full = self._create(name)
        lines = [f"link add {bridge} type bridge", f"link set {bridge} up", *(f"address add {a} dev {bridge}" for a in addresses)]
        command("ip", "-n", full, "-batch", "-", input="\n".join(lines) + "\n")

    def close(self):
        for full in self.names:
            _delete(full, signal.SIGKILL)


def base(number):
    return f"10.{70 + number}"


def address(number, place):
    """That of a site's host, counted from 0, in one row, as `firmcast-sim` counts; what is below is for the workers."""
    third, fourth = divmod(FIRST_HOST + place, 256)
    return f"{base(number)}.{third}.{fourth}"


def broadcast(number):
    return f"{base(number)}.255.255"


def clean_up():
    """Removes what a run left that was killed: its namespaces, with the programs in them."""
    for line in command("ip", "netns", "list").splitlines():
        full = line.split()[0]
        owner = full.removeprefix(PREFIX).split("-")[0]
        if full.startswith(PREFIX) and not Path(f"/proc/{owner}").exists():
            _delete(full, signal.SIGKILL)


def _delete(full, end):
    for process in command("ip", "netns", "pids", full).split():
        try:
            os.kill(int(process), end)
        except ProcessLookupError:
            pass
    command("ip", "netns", "delete", full)
