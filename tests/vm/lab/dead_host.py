"""A computer that rescues itself: it starts from its first flash chip, and the second holds the firmware that may be dead."""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from . import binaries
from . import distribution as distributions
from .boot import QUIRKS, Boot, light
from .firmware import OVMF_VARIABLES_BYTES, SECOND_BANK
from .server import Machine, Server
from .shell import run, write

MEMORY_MIB = 512
# The recovery environment's own log goes to the kernel's, which shows it; recovery refuses to flash beside EFI services.
RECOVERY_WORDS = f"{QUIRKS} rdinit=/usr/sbin/firmcastd efi=noruntime panic=-1 ignore_loglevel"
CONFIG = """\
listen = "0.0.0.0:9847"
host_key = "{folder}/host.key"
trusted_managers = ["{manager}"]
trusted_releases = ["{release}"]
flash = "{device}"
state_dir = "{folder}"
managers = [{managers}]
"""


class DeadHost(Server):
    """A server that starts the recovery environment, as a boot flash would; or, with a `distribution`, the initramfs that
    this tool of a distribution makes, and from there a normal OS."""

    def __init__(self, name, number, lab, words, rescue_archive, devices, distribution=None):
        self.bank = lab.folder / f"{name}.bank"
        self._has_disk = distribution is not None
        if distribution:
            initramfs = distributions.initramfs(lab, distribution, rescue_archive)
            fixed = distributions.OS_WORDS
        else:
            initramfs = lab.folder / f"{name}.initramfs"
            extra = (lab.kernel.module("second_bank"),)
            append(initramfs, binaries.recovery_initramfs(lab.kernel, extra), rescue_archive)
            fixed = RECOVERY_WORDS
        boots = Boot(lab.kernel.image, initramfs, f"{fixed} {words}")
        machine = Machine(kvm=lab.kvm, memory_mib=MEMORY_MIB, devices=tuple(devices))
        super().__init__(name, number, machine, lab.network, lab.folder, lab.sockets, boots)
        if distribution:
            distributions.root_disk(self.disk)
        self._light = light(lab.kernel.image, lab.light_initramfs)
        self.is_off = False

    def start(self):
        self.is_off = False
        super().start()

    def tend(self):
        """This machine may switch itself off."""
        if self._process is not None and self._process.poll() == 0:
            self._process = None
            self.is_off = True
        super().tend()

    def bank_code(self):
        """The second chip without the variables, which belong to the machine."""
        return self.bank.read_bytes()[OVMF_VARIABLES_BYTES:]

    def boot_with(self, words):
        """From the next start on these words are on the kernel's command line, beside those of the OS."""
        self._boot = replace(self._boot, command_line=f"{distributions.OS_WORDS} {words}")

    def swap_banks(self):
        """From the next start on the repaired bank is the first one, and what it boots is a normal OS."""
        shutil.copyfile(self.bank, self.flash)
        self._boot = self._light

    def _storage(self):
        bank = ["-drive", f"if=pflash,unit=1,format=raw,file={self.bank}"]
        return [*bank, *super()._storage()] if self._has_disk else bank


def rescue_archive(lab, name, *, key, managers=(), good=None, floor=0, **trust):
    """What `firmcastd rescue-archive` writes on the host `name` whose key is in the file `key`; `good` is the image that is
    recorded as good. Nothing of this machine's network gets into it."""
    # In memory: a folder on a disk would be taken for a place on the host's disk.
    with tempfile.TemporaryDirectory(prefix="firmcast-lab-", dir="/dev/shm") as folder:
        shutil.copyfile(key, Path(folder) / "host.key")
        os.chmod(Path(folder) / "host.key", 0o600)
        keys = {"manager": lab.manager.key, "release": lab.manager.release_key, **trust}
        keys = {role: file.with_suffix(".pub") for role, file in keys.items()}
        urls = ", ".join(f'"{url}"' for url in managers)
        config = write(Path(folder) / "agent.toml", CONFIG.format(folder=folder, device=SECOND_BANK, managers=urls, **keys))
        if floor:
            write(Path(folder) / "security-version-floor", f"{floor}\n")
        archive = lab.folder / f"{name}.rescue"
        record = ["--image", good] if good else []
        command = [binaries.firmcastd(), "rescue-archive", "--config", config, *record, "--output", archive]
        run("unshare", "--net", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh", *command)
        return archive


def append(target, *archives):
    """Archives one behind the other, as the kernel unpacks them: each begins at a multiple of four."""
    with open(target, "wb") as out:
        for archive in archives:
            out.write(b"\0" * (-out.tell() % 4))
            out.write(Path(archive).read_bytes())
