"""One sender and some receivers, each in a network namespace of its own, on one bridge that loses nothing by itself."""

import os
import subprocess
from pathlib import Path

from lab.network import remove_namespace
from lab.shell import run

PREFIX = "firmcast-bench-"
INTERFACE = "eth0"
BROADCAST = "10.78.0.255"
SENDER_ADDRESS = "10.78.0.1"
ETHERNET_HEADER_BYTES = 14


class Star:
    """Use as a context manager. Receivers are numbered from 1."""

    def __init__(self, receivers=0):
        sweep()
        self.receivers = range(1, receivers + 1)
        self._is_parted = False
        self._switch = self._add_namespace("switch")
        # Snooping would need a querier; without it a group is flooded as a broadcast is.
        self._run_in(self._switch, "ip", "link", "add", "bridge0", "type", "bridge", "mcast_snooping", "0", "stp_state", "0")
        self._run_in(self._switch, "ip", "link", "set", "bridge0", "up")
        for family in ["iptables", "ip6tables", "arptables"]:
            self._skip_netfilter(family)
        self.sender = self._add_station("sender", SENDER_ADDRESS)
        self.set_whole_pieces(False)
        self._stations = {number: self._add_station(f"r{number}", self.address(number)) for number in self.receivers}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for namespace in [*self._stations.values(), self.sender, self._switch]:
            remove_namespace(namespace)

    @staticmethod
    def address(number):
        """The address of a receiver."""
        return f"10.78.0.{10 + number}"

    def at_sender(self, *command):
        """The command line that runs `command` at the sender."""
        return _inside(self.sender, command)

    def at_receiver(self, number, *command):
        """The command line that runs `command` at a receiver."""
        return _inside(self._stations[number], command)

    def set_loss(self, percent):
        """UDP datagrams that each receiver loses, on its own, of those that reach it."""
        rule = f"meta l4proto udp numgen random mod 100 < {percent} counter drop" if percent else ""
        chain = f"chain input {{\ntype filter hook input priority 0; policy accept;\n{rule}\n}}"
        table = f"table inet bench\ndelete table inet bench\ntable inet bench {{\n{chain}\n}}\n"
        for namespace in self._stations.values():
            run(*_inside(namespace, ["nft", "-f", "-"]), stdin=table)

    def set_whole_pieces(self, whole):
        """Whether the sender's cable takes datagrams in pieces (UDP segmentation); else the kernel cuts them before it.
        Loss would hit whole pieces, and the interface would count one frame for each."""
        self._run_in(self.sender, "ethtool", "-K", INTERFACE, "tx-udp-segmentation", "on" if whole else "off")

    def part_switch_from_sender(self):
        """What happens behind the sender's cable is not its work: a kernel thread does it (threaded NAPI), and waits for no
        process, where else the sender's own system calls would. A virtual cable has NAPI for what the other end sends without TSO."""
        port, others = "port-sender", _threads()
        self._run_in(self.sender, "ethtool", "-K", INTERFACE, "tso", "off")
        self._run_in(self._switch, "ethtool", "-K", port, "gro", "on")
        self._run_in(self._switch, "sh", "-c", f"echo 1 > /sys/class/net/{port}/threaded")
        self._is_parted = True
        for thread in _threads() - others:
            run("chrt", "--fifo", "--pid", "1", thread)
        # The cable's ring drops what it has no room for, unless there is a queue before it.
        self._run_in(self.sender, "tc", "qdisc", "add", "dev", INTERFACE, "root", "pfifo", "limit", "10000")

    def sent_bytes(self):
        """Bytes of the Ethernet frames that the sender has put on its cable."""
        counted = self._sender_counts("tx_bytes")
        # With NAPI at its other end a cable counts what follows the Ethernet header.
        return counted + ETHERNET_HEADER_BYTES * self._sender_counts("tx_packets") if self._is_parted else counted

    def answered_bytes(self):
        """Bytes of the Ethernet frames that reached the sender."""
        return self._sender_counts("rx_bytes")

    def _sender_counts(self, what):
        return int(self._run_in(self.sender, "cat", f"/sys/class/net/{INTERFACE}/statistics/{what}"))

    def _add_namespace(self, name):
        namespace = f"{PREFIX}{os.getpid()}.{name}"
        run("ip", "netns", "add", namespace)
        self._run_in(namespace, "sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
        self._run_in(namespace, "ip", "link", "set", "lo", "up")
        return namespace

    def _skip_netfilter(self, family):
        """A switch looks at no IP header; the kernel's bridge does where br_netfilter is loaded."""
        name = f"net.bridge.bridge-nf-call-{family}"
        if Path("/proc/sys", *name.split(".")).exists():
            self._run_in(self._switch, "sysctl", "-q", "-w", f"{name}=0")

    def _add_station(self, name, address):
        namespace = self._add_namespace(name)
        port = f"port-{name}"
        self._run_in(namespace, "ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", port, "netns", self._switch)
        self._run_in(self._switch, "ip", "link", "set", port, "master", "bridge0", "up")
        self._run_in(namespace, "ip", "addr", "add", f"{address}/24", "broadcast", "+", "dev", INTERFACE)
        self._run_in(namespace, "ip", "link", "set", INTERFACE, "up")
        self._run_in(namespace, "ip", "route", "add", "224.0.0.0/4", "dev", INTERFACE)
        return namespace

    @staticmethod
    def _run_in(namespace, *command):
        return run(*_inside(namespace, command))


def _threads():
    """The kernel's threads behind senders' cables, also those of other runs."""
    found = subprocess.run(["pgrep", "^napi/port-send"], stdout=subprocess.PIPE, text=True, check=False)
    return set(found.stdout.split())


def _inside(namespace, command):
    return ["ip", "netns", "exec", namespace, *(str(word) for word in command)]


def sweep():
    """Removes the namespaces of runs that are gone without cleaning up."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0] if line.strip() else ""
        owner = name.removeprefix(PREFIX).split(".")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            remove_namespace(name)
