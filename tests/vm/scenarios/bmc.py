"""The manager's address in a BMC: QEMU's own one, OpenIPMI's, and one that misbehaves."""

import itertools
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time

from lab import binaries, packages
from lab.boot import QUIRKS
from lab.console_machine import ConsoleMachine, initramfs, with_dependencies
from lab.initramfs import BUSYBOX
from lab.scenario import scenario
from lab.shell import run, write

MEMORY_MIB = 256
DEVICE_TIMEOUT_S = 60
# What a BMC that hangs may cost, and what the machine itself takes beside.
LIMIT_S = 120 + 30
URL = "firmcast://192.0.2.7:9848/?key=SHA256:abc"
OTHER_URL = "firmcast://[2001:db8::7]:9848"
FRU_BYTES = 512


def checksum(data):
    """What makes the sum of all bytes zero."""
    return -sum(data) & 0xFF


def record(kind, data, last=False):
    """One record of a MultiRecord area."""
    header = bytes([kind, 0x82 if last else 0x02, len(data), checksum(data)])
    return header + bytes([checksum(header)]) + data


def fru_with(records):
    """FRU information with a board and a product area, these records, and bytes at the end that belong to nobody known."""
    board = bytes([1, 3, 25, 0, 0, 0]) + b"\xc4ACME\xc2X1\xc17\xc0\xc0\xc1"
    product = bytes([1, 3, 25]) + b"\xc4ACME\xc3Box\xc0\xc0\xc0\xc0\xc0\xc1"
    areas = b""
    for area in (board, product):
        area = area.ljust(23, b"\0")
        areas += area + bytes([checksum(area)])
    header = bytes([1, 0, 0, 1, 4, 7 if records else 0, 0])
    whole = header + bytes([checksum(header)]) + areas + records
    return whole.ljust(FRU_BYTES - 16, b"\0") + b"belongs to nobody"[:16]


OEM = record(0xC0, b"\x01\x02\x03oem")
WEB = record(0x03, b"\x01https://bmc.example", last=True)


def machine(lab, name, *bmc):
    """A machine with this BMC, whose devices are there."""
    files = {"bin/firmcastd": binaries.firmcastd()}
    system = initramfs("bmc", BUSYBOX, with_dependencies(lab.kernel, "ipmi_si", "ipmi_devintf"), files)
    found = ConsoleMachine(
        name,
        [
            "qemu-system-x86_64", "-nodefaults", "-M", "q35,accel=tcg", "-cpu", "max", "-m", MEMORY_MIB, *bmc,
            "-device", "isa-ipmi-kcs,bmc=bmc0",
            "-kernel", lab.kernel.image, "-initrd", system, "-append", f"{QUIRKS} quiet panic=-1",
        ],
        lab.folder / f"{name}.console",
    )  # fmt: skip
    found.start()
    status, said = found.command(f"n=0; while [ ! -e /dev/ipmi0 ] && [ $n -lt {DEVICE_TIMEOUT_S} ]; do sleep 1; n=$((n+1)); done; ls /dev/ipmi0")
    lab.check(f"{name}: the kernel found the BMC", status == 0, said)
    return found


def show(lab, vm):
    """What `bmc show --json` says."""
    status, said = vm.command("firmcastd bmc show --json", LIMIT_S)
    lab.check("show answers", status == 0, said)
    return json.loads(said)


def expect(lab, vm, command, what, status=0, words=""):
    """Runs a command and checks its status and its words."""
    got, said = vm.command(command, LIMIT_S)
    lab.check(f"{what}: {said.strip()}", got == status and words in said, f"status {got}: {said}")


@scenario(limit_s=400, with_manager=False)
def bmc_record(lab):
    """The manager's URL is set, shown and cleared in the FRU of QEMU's BMC; a full FRU and a machine without a BMC are told"""
    file = lab.folder / "fru.bin"
    file.write_bytes(fru_with(OEM + WEB))
    qemu_bmc = ["-device", f"ipmi-bmc-sim,id=bmc0,fruareasize={FRU_BYTES},frudatafile={file}"]
    vm = machine(lab, "qemu-bmc", *qemu_bmc)
    before = show(lab, vm)
    lab.check("no manager is there at first", before["managers"] == [], before)
    expect(lab, vm, f"firmcastd bmc set --url '{URL}'", "set", words="read back and compared")
    after = show(lab, vm)
    device = after["fru_devices"][0]
    lab.check("show has the URL", after["managers"] == [URL], after)
    lab.check("all areas and records are intact", all(a["state"] == "intact" for a in device["areas"]) and len(device["records"]) == 3, device)
    expect(lab, vm, f"firmcastd bmc set --url '{OTHER_URL}'", "another takes its place", words=OTHER_URL)
    lab.check("only that is there", show(lab, vm)["managers"] == [OTHER_URL])
    expect(lab, vm, "firmcastd bmc clear", "clear", words="removed")
    lab.check("all is as before", show(lab, vm) == before)
    expect(lab, vm, "firmcastd bmc clear", "clear again", words="no FRU device holds")
    expect(lab, vm, "firmcastd bmc show", "show for people", words="manager: none")
    expect(lab, vm, "rmmod ipmi_devintf && firmcastd bmc show", "without a device", status=1, words="no IPMI device")
    vm.power_cut()
    file.write_bytes(fru_with(OEM + record(0x03, b"\x01https://bmc.example/" + b"x" * 200) + record(0xC1, b"y" * 180, last=True)))
    vm = machine(lab, "full-bmc", *qemu_bmc)
    expect(lab, vm, f"firmcastd bmc set --url '{URL}'", "no room", status=1, words="no room")
    vm.power_cut()


def free_port(kind):
    """A port of 127.0.0.1 that nobody has."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OpenIpmiBmc:
    """OpenIPMI's `ipmi_sim`: a BMC for QEMU, and for ipmitool over the network. `inside` makes a command line run where
    QEMU runs."""

    def __init__(self, lab, fru, inside=lambda *command: command):
        self._inside = inside
        self.lan, self.serial = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        config = write(
            lab.folder / "lan.conf",
            f"""name "sim"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {self.lan}
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  serial 15 127.0.0.1 {self.serial} codec VM
  user 2 true "operator" "lab" admin 10 none md2 md5 straight
""",
        )
        emulation = write(
            lab.folder / "bmc.emu",
            f"""mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_add_fru_data 0x20 0 {FRU_BYTES:#x} file 0 "{fru}"
mc_enable 0x20
""",
        )
        state = lab.folder / "ipmi_sim"
        state.mkdir()
        with open(lab.folder / "ipmi_sim.log", "w") as log:
            self._process = subprocess.Popen(
                inside(
                    "setpriv", "--pdeathsig", "KILL", "ipmi_sim", "-n", "-c", str(config), "-f", str(emulation), "-s", str(state)
                ),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def qemu_arguments(self):
        """QEMU's side of the connection."""
        chardev = f"socket,id=bmc,host=127.0.0.1,port={self.serial},reconnect=1"
        return ["-chardev", chardev, "-device", "ipmi-bmc-extern,chardev=bmc,id=bmc0"]

    def ipmitool(self, *command):
        """What an operator elsewhere does."""
        access = ("-I", "lan", "-H", "127.0.0.1", "-p", self.lan, "-U", "operator", "-P", "lab")
        return run(*self._inside("ipmitool", *access, *command), timeout_s=120)

    def stop(self):
        """Ends it."""
        self._process.kill()
        self._process.wait()


@scenario(limit_s=400, with_manager=False)
def bmc_openipmi(lab):
    """A record that ipmitool wrote over the network is seen from inside; what is set inside is the same outside, byte for byte"""
    packages.install("openipmi", "ipmitool")
    fru = lab.folder / "fru.bin"
    original = fru_with(OEM + WEB)
    fru.write_bytes(original)
    bmc = OpenIpmiBmc(lab, fru)
    try:
        vm = machine(lab, "openipmi-bmc", *bmc.qemu_arguments())
        lab.check("no manager is there at first", show(lab, vm)["managers"] == [])
        ours = record(0x03, b"\x01" + URL.encode(), last=True)
        written = lab.folder / "written.bin"
        written.write_bytes(fru_with(OEM + record(0x03, b"\x01https://bmc.example") + ours))
        bmc.ipmitool("fru", "write", "0", written)
        lab.check("what ipmitool wrote is seen inside", show(lab, vm)["managers"] == [URL])
        expect(lab, vm, "firmcastd bmc clear", "clear", words="removed")
        read = lab.folder / "read.bin"
        bmc.ipmitool("fru", "read", "0", read)
        lab.check("outside the FRU is the original one, byte for byte", read.read_bytes() == original)
        expect(lab, vm, f"firmcastd bmc set --url '{URL}'", "set", words="read back and compared")
        bmc.ipmitool("fru", "read", "0", read)
        lab.check("outside it is what ipmitool had written, byte for byte", read.read_bytes() == written.read_bytes())
        said = bmc.ipmitool("fru", "print", "0")
        lab.check("ipmitool still understands the areas", "ACME" in said and "Box" in said, said)
        vm.power_cut()
    finally:
        bmc.stop()


MESSAGE_END, COMMAND_END, ESCAPE = 0xA0, 0xA1, 0xAA
STORAGE = 0x0A
DEVICE_ID = bytes([0x20, 0x81, 1, 0, 2, 0x0B, 0, 0, 0, 0, 0])


class OddBmc:
    """A BMC that starts well and then does what `mood` says: it speaks the protocol of ipmi-bmc-extern."""

    _numbers = itertools.count(1)

    def __init__(self, lab, mood="well"):
        self.mood = mood
        # A name for programs in every network of this machine.
        self._name = lab.sockets / f"bmc-{next(OddBmc._numbers)}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._name))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def qemu_arguments(self):
        """QEMU's side of the connection."""
        # With "reconnect" QEMU connects late; when it connects at once it uses its interface before it has made it.
        chardev = f"socket,id=bmc,path={self._name},reconnect=1"
        return ["-chardev", chardev, "-device", "ipmi-bmc-extern,chardev=bmc,id=bmc0"]

    def _serve(self):
        connection, _ = self._listener.accept()
        message = bytearray()
        escaped = False
        while received := connection.recv(4096):
            for byte in received:
                if byte == MESSAGE_END:
                    answer = self._answer(message[0], message[1] >> 2, message[2])
                    if answer:
                        connection.sendall(answer)
                if byte in (MESSAGE_END, COMMAND_END):
                    message.clear()
                elif byte == ESCAPE:
                    escaped = True
                else:
                    message.append(byte & ~0x10 if escaped else byte)
                    escaped = False

    def _answer(self, sequence, function, command):
        is_probe = function != STORAGE and command != 0x59
        if self.mood == "silent" or (self.mood == "half silent" and not is_probe):
            return None
        body = b"\xc1"
        if (function, command) == (6, 1):
            body = b"\0" + DEVICE_ID
        elif is_probe:
            # Message flags, global enables: nothing is waiting, nothing is on.
            body = b"\0\0" if command in (0x31, 0x2F) else b"\0"
        elif self.mood == "errors":
            body = bytes([0xFF])
        elif self.mood == "garbage":
            body = b"\0" + os.urandom(struct.unpack("B", os.urandom(1))[0] % 40)
        message = bytes([sequence, (function | 1) << 2, command]) + body
        message += bytes([checksum(message)])
        escape = lambda byte: bytes([ESCAPE, byte | 0x10]) if byte in (MESSAGE_END, COMMAND_END, ESCAPE) else bytes([byte])
        return b"".join(map(escape, message)) + bytes([MESSAGE_END])


@scenario(limit_s=900, with_manager=False)
def bmc_misbehaves(lab):
    """A BMC that answers errors or garbage, or hangs at once or in the middle, ends with clear words within the limit"""
    bmc = OddBmc(lab)
    vm = machine(lab, "odd-bmc", *bmc.qemu_arguments())
    for mood in ("errors", "garbage", "half silent", "silent"):
        bmc.mood = mood
        for command in ("show", f"set --url {OTHER_URL}"):
            began = time.monotonic()
            status, said = vm.command(f"firmcastd bmc {command}", LIMIT_S)
            took_s = time.monotonic() - began
            clear = re.search(r"answer|timeout|slow|not there|manager: none", said)
            lab.check(f"{mood}, {command}: status {status} after {took_s:.0f} s: {said.strip()[-300:]}", clear and "panick" not in said, said)
            lab.check("a command that changed nothing does not claim success", command == "show" or status == 1, said)
    vm.power_cut()
