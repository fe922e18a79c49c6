"""Entries of a boot loader that lead into recovery."""

import dataclasses
import shutil

from lab.firmware import SECOND_BANK
from lab.grub_disk import OS_IS_UP, GrubDisk
from lab.scenario import scenario
from lab.server import Machine, Server

TIMEOUT_S = 240
ENTRY = "--id firmcast-recovery"
CMDLINE = "CMDLINE=no_timer_check console=ttyS0 panic=-1 ignore_loglevel"
GRUB_DEFAULTS = 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="console=ttyS0 no_timer_check panic=-1"\n'
# What must be on the console of a machine that GRUB started once with the entry, in this order.
COURSE = ("rdinit=/usr/sbin/firmcastd efi=noruntime", "firmware is valid", "booting on", OS_IS_UP.strip("^$"))


@dataclasses.dataclass(frozen=True)
class FromDisk:
    """The machine's firmware starts what is on the disk."""

    def qemu_arguments(self):
        return []


class GrubHost(Server):
    """A machine that GRUB starts; its second flash chip holds the firmware that recovery judges."""

    def __init__(self, lab, disk, number):
        name = f"grub{number}"
        super().__init__(name, number, Machine(), lab.network, lab.folder, lab.sockets, FromDisk())
        self.disk = disk.file
        self.bank = lab.folder / f"{name}.bank"
        shutil.copyfile(lab.firmware.ovmf_old, self.bank)
        # SeaBIOS starts GRUB of a BIOS machine.
        self.insert_flash(lab.firmware.seabios)

    def _storage(self):
        return ["-drive", f"if=pflash,unit=1,format=raw,file={self.bank}", *super()._storage()]


def settings(lab):
    """The files that an operator puts on a host."""
    keys = {"manager": lab.manager.key, "release": lab.manager.release_key}
    trusted = {f"etc/firmcast/trusted.d/{role}.pub": key.with_suffix(".pub").read_text() for role, key in keys.items()}
    return {
        **trusted,
        "var/lib/firmcast/host.key": lab.manager.new_key("host", lab.manager.folder / "host.key").read_text(),
        "etc/firmcast/agent.toml": f'flash = "{SECOND_BANK}"\n',
        "etc/firmcast/recovery.conf": f"{CMDLINE}\n",
        "etc/default/grub": GRUB_DEFAULTS,
    }


def rescue_line(shop):
    _, said = shop.inside("firmcastd check")
    return next(line for line in said.splitlines() if " rescue " in line)


@scenario(limit_s=1200, on_demand=True)
def grub_entry_starts_recovery_once(lab):
    """firmcast-mkrecovery --boot-entry, with /boot a file system of its own and not: the entry is in GRUB's menu, `check`
    says so, and grub-reboot starts it once; recovery finds the firmware valid and boots on into the normal OS"""
    hosts, files = [], settings(lab)
    for number, boot in enumerate((None, "ext4"), start=1):
        what = f"/boot {'on ' + boot if boot else 'in the root'}"
        disk = GrubDisk(lab, lab.folder / f"grub{number}.disk", boot, files)
        shop = disk.workshop(lab)
        shop.open()
        shop.must("grub-install --target=i386-pc /dev/vda && update-grub")
        line = rescue_line(shop)
        lab.check(f"{what}: check says that nothing leads into recovery", "nothing brings this machine" in line, line)
        said = shop.must("firmcast-mkrecovery --boot-entry")
        lab.check(f"{what}: the image was current", "is current" in said, said)
        menu = shop.must("cat /boot/grub/grub.cfg")
        lab.check(f"{what}: the entry is in GRUB's menu, once", menu.count(ENTRY) == 1, menu[-3000:])
        line = rescue_line(shop)
        lab.check(f"{what}: check is content", line.startswith("ok ") and "entry of grub" in line, line)
        modes = shop.must("stat -c '%a %n' /boot/firmcast /boot/firmcast/*")
        lab.check(f"{what}: all of it is for root alone", all(mode[1:3] == "00" for mode in modes.split("\n") if mode), modes)
        shop.must("grub-reboot firmcast-recovery")
        shop.close()
        hosts.append((what, GrubHost(lab, disk, number)))
    for _, host in hosts:
        lab.servers.append(host)
        host.start()
    for what, host in hosts:
        lab.wait_for(host, "(?s)" + ".*".join(COURSE), TIMEOUT_S)
        lab.check(f"{what}: GRUB started recovery, which found the firmware valid and booted on into the OS", True)
        frames = lab.network.frames_from(host)
        lab.check(f"{what}: it called nobody", frames == 0, frames)
