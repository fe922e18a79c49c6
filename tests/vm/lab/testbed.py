"""A lab: some servers, one manager, one network, and the waiting that keeps them all going."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from . import binaries, boot, debian, firmware, initramfs, kernel, packages
from .dead_host import DeadHost, rescue_archive
from .manager import Manager, outcome
from .network import MANAGER_ADDRESS, SUBNET_BITS, Network
from .server import POLL_S, Machine, Server
from .shell import run, write

PATIENCE = float(os.environ.get("LAB_PATIENCE", "1"))
BOOT_TIMEOUT_S = 240
MANAGER_TIMEOUT_S = 600
DISK_BYTES = {"light": 256 * 1024 * 1024, "debian": 1536 * 1024 * 1024}
OS_IS_UP = r"^server: OS is up"
RESCUE_THEN_OFF = "firmcast.recover=auto firmcast.then=poweroff"
AGENT_CONFIG = """\
listen = "0.0.0.0:9847"
host_key = "/var/lib/firmcast/host.key"
trusted_managers = ["/etc/firmcast/manager.pub"]
trusted_releases = ["/etc/firmcast/release.pub"]
flash = "bios"
recovery_kernel = "/boot/vmlinuz"
recovery_initramfs = "/boot/firmcast-recovery.img"
state_dir = "/var/lib/firmcast"
"""


class CheckFailed(Exception):
    """Something that a scenario checks does not hold."""


class Lab:
    """Use as a context manager: at its end every process and the network are gone, the files stay."""

    def __init__(self, folder, kvm=False, with_manager=True):
        packages.require_root()
        packages.install(*packages.NEEDED)
        self.folder = Path(folder).resolve()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.kernel = kernel.prepare()
        self.firmware = firmware.prepare()
        self.kvm = kvm
        self.checked = []
        self.servers = []
        self.deadline = None
        # The paths of Unix sockets may not be long, those of a checkout may.
        self.sockets = Path(tempfile.mkdtemp(prefix="firmcast-lab-"))
        self.network = Network(f".{self.folder.name[:24]}")
        self.light_initramfs = initramfs.prepare(self.kernel)
        self.manager = Manager(self.folder, self.network) if with_manager else None
        if with_manager:
            # Built before the scenario's time begins to run.
            binaries.recovery_initramfs(self.kernel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Switches everything off."""
        for server in self.servers:
            server.power_cut()
        self.network.remove()
        shutil.rmtree(self.sockets, ignore_errors=True)

    # Servers

    def add_server(self, flash, *, system="light", address=None, agent=True, recovery_modules=(), files=None,
                   more_of_debian=((), ()), **machine):  # fmt: skip
        """A new server, switched off, with `flash` in its chip. `address` "dhcp" makes it ask for one.

        `system` is "light" or "debian", that one with more packages and modules than usual; `files` puts more files on its disk (name -> path); `recovery_modules` adds modules
        to its recovery initramfs; the rest describes the `Machine`.
        """
        number = len(self.servers) + 1
        machine = Machine(kvm=self.kvm, **machine)
        boots = (boot.light if system == "light" else boot.debian)(self.kernel.image, self.light_initramfs)
        server = Server(f"server{number}", number, machine, self.network, self.folder, self.sockets, boots)
        server.insert_flash(flash)
        stage = self.folder / f"{server.name}.stage"
        places = self._stage_light(stage) if system == "light" else self._stage_debian(stage, *more_of_debian)
        wanted = address or f"{server.address}/{SUBNET_BITS}"
        if system == "light":
            settings = f"NAME={server.name}\nADDRESS={wanted}\nGATEWAY={MANAGER_ADDRESS}\n"
            write(stage / "etc/server.conf", settings)
        else:
            debian.configure(stage, server.name, wanted, MANAGER_ADDRESS)
        for name, source in (files or {}).items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, stage / name)
        if agent:
            self._install_agent(server, recovery_modules, **places)
            if system == "debian":
                debian.install_units(stage)
        with open(server.disk, "wb") as disk:
            disk.truncate(DISK_BYTES[system])
        run("mke2fs", "-q", "-F", "-t", "ext4", "-d", stage, server.disk)
        shutil.rmtree(stage)
        self.servers.append(server)
        return server

    def add_dead_host(self, bank, *, words=RESCUE_THEN_OFF, devices=(), distribution=None, **archive):
        """A computer, switched off, whose firmware in the second chip is `bank`; `archive` is what it knows
        (`dead_host.rescue_archive`)."""
        number = len(self.servers) + 1
        name = f"server{number}"
        key = self.manager.new_key("host", self.manager.folder / f"{name}.key")
        known = rescue_archive(self, name, key=key, **archive)
        host = DeadHost(name, number, self, words, known, devices, distribution)
        # SeaBIOS starts Linux in a fraction of the time that OVMF takes.
        host.insert_flash(self.firmware.seabios)
        host.bank.write_bytes(bank)
        self.servers.append(host)
        return host

    def _stage_light(self, stage):
        """The state disk of the light OS, which binds its folders to their usual places."""
        places = {"programs": stage / "bin", "etc": stage / "etc", "state": stage / "lib", "kernels": stage / "boot"}
        for place in places.values():
            place.mkdir(parents=True)
        return places

    def _stage_debian(self, stage, more, modules):
        """The whole disk of a Debian."""
        debian.copy_tree(self.kernel, stage, more, modules)
        places = {"etc": stage / "etc/firmcast", "state": stage / "var/lib/firmcast"}
        for place in places.values():
            place.mkdir(parents=True)
        return {**places, "programs": stage / "usr/sbin", "kernels": stage / "boot"}

    def _install_agent(self, server, recovery_modules, *, programs, etc, state, kernels):
        """What the packages and the administrator put on a host."""
        shutil.copy(binaries.firmcastd(), programs / "firmcastd")
        shutil.copy(self.kernel.image, kernels / "vmlinuz")
        shutil.copy(binaries.recovery_initramfs(self.kernel, recovery_modules), kernels / "firmcast-recovery.img")
        host_key = self.manager.new_key("host", self.manager.folder / f"{server.name}.key")
        shutil.copy(host_key, state / "host.key")
        shutil.copy(host_key.with_suffix(".pub"), state / "host.pub")
        shutil.copy(self.manager.key.with_suffix(".pub"), etc / "manager.pub")
        shutil.copy(self.manager.release_key.with_suffix(".pub"), etc / "release.pub")
        chip = "bios-low+bios-high" if server.machine.two_chips else "bios"
        write(etc / "agent.toml", AGENT_CONFIG.replace('"bios"', f'"{chip}"'))

    def start_dhcp_server(self):
        """Servers whose address is "dhcp" need one; returns its log file."""
        return self.network.start_dhcp_server(self.folder)

    def boot(self, *servers):
        """Switches servers on and waits until their OS is up."""
        for server in servers:
            server.mark()
            server.start()
        for server in servers:
            self.wait_for(server, OS_IS_UP, BOOT_TIMEOUT_S)

    # Waiting

    def wait_until(self, condition, timeout_s, what):
        """Waits until `condition()` is true, and returns its value; completes power cycles meanwhile."""
        end = time.monotonic() + timeout_s * PATIENCE
        if self.deadline is not None:
            end = min(end, self.deadline)
        while True:
            for server in self.servers:
                server.tend()
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise CheckFailed(f"waited too long for: {what}")
            time.sleep(POLL_S)

    def wait_for(self, server, pattern, timeout_s=BOOT_TIMEOUT_S):
        """Waits until the console of `server`, since its mark, shows a regular expression; returns the match."""
        return self.wait_until(lambda: server.shows(pattern), timeout_s, f"/{pattern}/ on the console of {server.name}")

    def finish(self, process, timeout_s=MANAGER_TIMEOUT_S):
        """Waits for the end of a manager's process; returns its outcome."""
        self.wait_until(lambda: process.poll() is not None, timeout_s, f"the end of `{' '.join(str(a) for a in process.args[7:])}`")
        return outcome(process)

    def enroll(self, *servers):
        """Makes the hosts known to the manager: waits until their agents answer a discovery."""

        def all_found():
            found = self.finish(self.manager.start_enrolment(), 60)
            return found.status == 0 and len(found.json()) >= len(servers) and found

        return self.wait_until(all_found, 90, f"{len(servers)} agents that answer the manager").json()

    def update(self, bundle, *options, timeout_s=MANAGER_TIMEOUT_S, show=False):
        """Runs a campaign to its end; returns its outcome. `show` lets it use this terminal instead of its log."""
        return self.finish(self.manager.start_update(bundle, *options, show=show), timeout_s)

    # Checking

    def check(self, what, holds, found=""):
        """Records one thing that must hold, in the words of the report; raises `CheckFailed` when it does not."""
        if not holds:
            raise CheckFailed(f"does not hold: {what}" + (f"; found: {found}" if found != "" else ""))
        self.checked.append(what)

    def check_status(self, what, result, expected):
        """Checks the exit status of the manager, and shows what it said when it is another."""
        self.check(f"{what} (exit status {expected})", result.status == expected, f"{result.status}\n{result.output[-3000:]}")

    def check_ends(self, result, hosts, **expected):
        """Checks how the manager says that a campaign ended for its hosts: `reason`, `flash` and the like."""
        ends = result.results()
        self.check(f"the manager reports on {hosts} hosts", len(ends) == hosts, result.output[-3000:])
        for host, end in ends.items():
            for field, value in expected.items():
                self.check(f"{host} ended with {field} {value}", end.get(field) == value, end)
