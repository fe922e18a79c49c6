"""One private network per lab: a namespace with a bridge, a port for the manager and a tap for each server."""

import os
import re
import signal
import subprocess
import time

from .shell import CommandFailed, run

PREFIX = "firmcast-lab-"
BRIDGE = "bridge0"
MANAGER_INTERFACE = "manager0"
MANAGER_PORT = "manager-port"
MANAGER_ADDRESS = "10.77.0.1"
SUBNET_BITS = 24
ENDED_PROCESS_WAIT_S = 5


class Network:
    """The namespace is named for this process, so that parallel runs do not meet."""

    def __init__(self, label=""):
        sweep()
        self.namespace = f"{PREFIX}{os.getpid()}{label}"
        self._taps = 0
        self._loss = {"to_servers": 0, "to_manager": 0}
        self._manager_cut_off = False
        run("ip", "netns", "add", self.namespace)
        # Before any interface exists: nothing but IPv4 unless a scenario asks, so that captures stay readable.
        self.run("sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0")
        self.run("ip", "link", "set", BRIDGE, "up")
        self.run("ip", "link", "add", MANAGER_INTERFACE, "type", "veth", "peer", "name", MANAGER_PORT)
        self.run("ip", "link", "set", MANAGER_PORT, "master", BRIDGE, "up")
        self.run("ip", "addr", "add", f"{MANAGER_ADDRESS}/{SUBNET_BITS}", "broadcast", "+", "dev", MANAGER_INTERFACE)
        self.run("ip", "link", "set", MANAGER_INTERFACE, "up")

    def inside(self, *command):
        """The command line that runs `command` in this network."""
        return ["ip", "netns", "exec", self.namespace, *(str(word) for word in command)]

    def run(self, *command, **options):
        """Runs a program in this network."""
        return run(*self.inside(*command), **options)

    def add_tap(self):
        """A new port on the bridge for one server; returns its name."""
        self._taps += 1
        name = f"tap{self._taps}"
        self.run("ip", "tuntap", "add", name, "mode", "tap")
        self.run("ip", "link", "set", name, "master", BRIDGE, "up")
        return name

    def set_loss(self, to_servers=0, to_manager=0):
        """Percent of UDP datagrams that are lost, for each server on its own."""
        self._loss = {"to_servers": to_servers, "to_manager": to_manager}
        self._apply_rules()

    def cut_off_manager(self, cut_off=True):
        """Pulls the manager's cable, or plugs it in again."""
        self._manager_cut_off = cut_off
        self._apply_rules()

    def _apply_rules(self):
        rules = []
        if self._manager_cut_off:
            rules += [f'oifname "{MANAGER_PORT}" drop', f'iifname "{MANAGER_PORT}" drop']
        for percent, port in ((self._loss["to_servers"], "!="), (self._loss["to_manager"], "==")):
            if percent:
                # A broadcast passes here once for each port, so every server loses other fragments.
                rules.append(
                    f'oifname {port} "{MANAGER_PORT}" ip protocol udp numgen random mod 1000 < {round(percent * 10)} counter drop'
                )
        chain = "\n".join(["type filter hook forward priority 0; policy accept;", *rules])
        table = f"table bridge lab\ndelete table bridge lab\ntable bridge lab {{\nchain forward {{\n{chain}\n}}\n}}\n"
        self.run("nft", "-f", "-", stdin=table)

    def lost_packets(self):
        """How many datagrams the loss rules have dropped so far."""
        table = self.run("nft", "list", "table", "bridge", "lab")
        return sum(int(count) for count in re.findall(r"counter packets (\d+)", table))

    def manager_bytes(self):
        """How many bytes the manager has sent so far."""
        return int(self.run("cat", f"/sys/class/net/{MANAGER_INTERFACE}/statistics/tx_bytes"))

    def frames_from(self, server):
        """How many frames the server's NIC has sent so far."""
        return int(self.run("cat", f"/sys/class/net/{server.tap}/statistics/rx_packets"))

    def start_dhcp_server(self, folder):
        """Gives out addresses from 10.77.0.100 on at the manager's interface; returns the server's log."""
        config, leases, log = folder / "dhcp.conf", folder / "dhcp.leases", folder / "dhcp.log"
        config.write_text(
            f"start 10.77.0.100\nend 10.77.0.150\nmax_leases 51\ninterface {MANAGER_INTERFACE}\n"
            "option subnet 255.255.255.0\noption router 10.77.0.1\noption lease 3600\n"
            f"lease_file {leases}\npidfile {folder / 'dhcp.pid'}\n"
        )
        leases.touch()
        with open(log, "w") as output:
            command = self.inside("setpriv", "--pdeathsig", "KILL", "busybox", "udhcpd", "-f", config)
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        return log

    def start_dnsmasq(self, folder, *settings):
        """A DHCP and DNS server at the manager's interface for whose clients these lines of dnsmasq.conf say more; returns
        its log."""
        config, log = folder / "dnsmasq.conf", folder / "dnsmasq.log"
        fixed = [
            "keep-in-foreground", "log-facility=-", "log-dhcp", "user=root", "no-resolv", "no-hosts", "bind-interfaces",
            f"interface={MANAGER_INTERFACE}", "except-interface=lo", "dhcp-range=10.77.0.100,10.77.0.150,1h",
            f"dhcp-leasefile={folder / 'dnsmasq.leases'}", "pid-file=",
        ]  # fmt: skip
        config.write_text("".join(f"{line}\n" for line in [*fixed, *settings]))
        with open(log, "w") as output:
            command = self.inside("setpriv", "--pdeathsig", "KILL", "dnsmasq", f"--conf-file={config}")
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        return log

    def add_address(self, address):
        """One more address of the manager's interface."""
        self.run("ip", "addr", "add", f"{address}/{SUBNET_BITS}", "dev", MANAGER_INTERFACE)

    def remove(self):
        """Ends what still runs in the namespace and removes it."""
        remove_namespace(self.namespace)


def sweep():
    """Removes the networks of lab processes that are gone without cleaning up."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0] if line.strip() else ""
        owner = name.removeprefix(PREFIX).split(".")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            remove_namespace(name)


def remove_namespace(namespace):
    """Ends what runs in a namespace and removes it."""
    deadline = time.monotonic() + ENDED_PROCESS_WAIT_S
    while time.monotonic() < deadline:
        found = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True).stdout.split()
        if not found:
            break
        for process in found:
            try:
                os.kill(int(process), signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.1)
    try:
        run("ip", "netns", "del", namespace)
    except CommandFailed as failure:
        print(f"lab: {failure}")
