"""One virtual server: a QEMU q35 machine whose BIOS lies in a flash chip, with a disk, a NIC and two serial ports."""

import hashlib
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .boot import CPU

POLL_S = 0.1
CONTROL_TIMEOUT_S = 120
MEMORY_MIB = 768
VENDOR = "Firmcast Lab"
# The product with two chips (`Machine.two_chips`).
TWO_CHIPS = "Virtual Server with Two Chips"


class ServerFailed(Exception):
    """A virtual server did not do what was waited for."""


@dataclass(frozen=True)
class Machine:
    """What a server is made of."""

    nic: str = "virtio-net-pci"
    product: str = "Virtual Server 1"
    memory_mib: int = MEMORY_MIB
    kvm: bool = False
    watchdog: bool = True
    # True: a reset of the machine is a power cycle of QEMU. Needed where the firmware changes its kind, because QEMU
    # copies the legacy segment below 1 MiB from the flash chip only when it starts.
    power_cycle_on_reset: bool = False
    # The firmware lies in two chips of the same size, one behind the other.
    two_chips: bool = False
    # How many bytes of the chip can be erased or written in a second; 0: as many as the emulation can.
    chip_rate_bytes: int = 0
    # More of QEMU's command line.
    devices: tuple = ()


class Server:
    """A server keeps its flash and its disk from start to start; its console grows in one file."""

    def __init__(self, name, number, machine, network, folder, sockets, boot):
        self.name = name
        self.machine = machine
        self.address = f"10.77.0.{10 + number}"
        self.mac = f"52:54:00:77:00:{10 + number:02x}"
        self.flash = folder / f"{name}.flash"
        self.disk = folder / f"{name}.disk"
        self.console_file = folder / f"{name}.console"
        self._qemu_log = folder / f"{name}.qemu"
        self._control_socket = sockets / f"{name}.control"
        self._console_socket = sockets / f"{name}.console"
        self._network = network
        self.tap = network.add_tap()
        self._boot = boot
        self._process = None
        self._control = None
        self._commands = 0
        self.starts = 0
        self._position = 0

    # Power

    def insert_flash(self, image):
        """Puts a private, writable copy of a firmware image into the flash chip."""
        shutil.copyfile(image, self.flash)

    def start(self):
        """Power on."""
        if self.running():
            raise ServerFailed(f"{self.name} is on already")
        self._close_control()
        log = open(self._qemu_log, "a")
        command = self._network.inside("setpriv", "--pdeathsig", "KILL", *self._qemu())
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.starts += 1

    def boot_next(self, boot):
        """From the next start on this is what the firmware boots."""
        self._boot = boot

    def power_cut(self):
        """Pulls the plug."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._close_control()

    def running(self):
        """Is the machine on?"""
        return self._process is not None and self._process.poll() is None

    def tend(self):
        """To be called while waiting: completes a power cycle, and notices a machine that died."""
        if self._process is None or self._process.poll() is None:
            return
        status = self._process.returncode
        self._process = None
        if status != 0:
            raise ServerFailed(f"QEMU of {self.name} ended with status {status}: {self._qemu_log.read_text().strip()}")
        if not self.machine.power_cycle_on_reset:
            raise ServerFailed(f"{self.name} switched itself off")
        self.start()

    def _qemu(self):
        machine = self.machine
        reset = ["-no-reboot"] if machine.power_cycle_on_reset else []
        watchdog = ["-device", "i6300esb", "-action", "watchdog=reset"] if machine.watchdog else []
        return [
            "qemu-system-x86_64", "-name", self.name, "-nodefaults", "-display", "none",
            "-M", f"q35,accel={'kvm' if machine.kvm else 'tcg'}", "-cpu", "host" if machine.kvm else CPU,
            "-m", str(machine.memory_mib), *reset, *watchdog,
            *self._chips(), *self._storage(),
            "-netdev", f"tap,id=net0,ifname={self.tap},script=no,downscript=no",
            "-device", f"{machine.nic},netdev=net0,mac={self.mac},romfile=",
            "-device", "virtio-rng-pci",
            "-smbios", f"type=1,manufacturer={VENDOR},product={machine.product},serial={self.name}",
            "-chardev", f"socket,id=con,path={self._console_socket},server=on,wait=off,"
                        f"logfile={self.console_file},logappend=on", "-serial", "chardev:con",
            "-chardev", f"socket,id=ctl,path={self._control_socket},server=on,wait=off", "-serial", "chardev:ctl",
            *machine.devices, *self._boot.qemu_arguments(),
        ]  # fmt: skip

    def _chips(self):
        """QEMU puts unit 0 below 4 GiB, and unit 1 below that."""
        if not self.machine.two_chips:
            rate = f",throttling.bps-write={self.machine.chip_rate_bytes}" if self.machine.chip_rate_bytes else ""
            return ["-drive", f"if=pflash,unit=0,format=raw,file={self.flash}{rate}"]
        half = self.flash.stat().st_size // 2
        place = f"size={half},file.driver=file,file.filename={self.flash},file.locking=off"
        return [
            "-drive", f"if=pflash,unit=0,driver=raw,offset={half},{place}", "-drive", f"if=pflash,unit=1,driver=raw,offset=0,{place}",
        ]  # fmt: skip

    def _storage(self):
        return ["-drive", f"if=virtio,format=raw,file={self.disk}"]

    # Console

    def console(self):
        """All that the console has shown since the lab began, without terminal control sequences."""
        if not self.console_file.exists():
            return ""
        text = self.console_file.read_bytes().decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;?=]*[A-Za-z]|\r", "", text)

    def mark(self):
        """From now on `console_since_mark` and `wait_for` look only at what comes after this moment."""
        self._position = len(self.console())

    def console_since_mark(self):
        """What the console has shown since the last mark."""
        return self.console()[self._position :]

    def shows(self, pattern):
        """Looks once: the match of a regular expression in the console since the mark, or None."""
        return re.search(pattern, self.console_since_mark(), re.MULTILINE)

    # Flash

    def flash_bytes(self, offset_bytes=0, length_bytes=None):
        """What the chip holds at this moment."""
        contents = self.flash.read_bytes()[offset_bytes:]
        return contents if length_bytes is None else contents[:length_bytes]

    def flash_digest(self, offset_bytes=0, length_bytes=None):
        """SHA-256 of a range of the chip."""
        return hashlib.sha256(self.flash_bytes(offset_bytes, length_bytes)).hexdigest()

    # Control

    def command(self, line, timeout_s=CONTROL_TIMEOUT_S):
        """Runs a shell command in the server's light OS, over its second serial port: (status, output).

        Wait for the OS first: during the boot the firmware would take the bytes for keys.
        """
        if self._control is None:
            self._control = socket.socket(socket.AF_UNIX)
            self._control.connect(str(self._control_socket))
        self._commands += 1
        begin = f"lab: begin {self._commands}"
        self._control.sendall(f"echo; echo {begin}; {line}\n".encode())
        output = self._read_control(rb"lab: done (\d+)\r?\n", timeout_s)
        said = output.decode("utf-8", "replace").replace("\r", "").partition(begin + "\n")[2]
        body, _, status = said.rpartition("lab: done ")
        return int(status), body

    def _read_control(self, end, timeout_s):
        deadline = time.monotonic() + timeout_s
        received = b""
        while not re.search(end + rb"\Z", received):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._close_control()
                raise ServerFailed(f"{self.name}: no answer on the control port in {timeout_s} s, only {received!r}")
            self._control.settimeout(left_s)
            try:
                piece = self._control.recv(65536)
            except TimeoutError:
                continue
            if not piece:
                self._close_control()
                raise ServerFailed(f"{self.name} went away during a command; it had said {received!r}")
            received += piece
        return received

    def _close_control(self):
        if self._control is not None:
            self._control.close()
            self._control = None
