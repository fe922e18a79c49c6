"""Entries of a boot loader that lead into recovery."""

import dataclasses
import shutil
from pathlib import Path

from lab import packages
from lab.firmware import SECOND_BANK
from lab.grub_disk import OS_IS_UP, GrubDisk, Workshop, enter, fat_disk, make_debian
from lab.scenario import scenario
from lab.server import Machine, Server

TIMEOUT_S = 240
ENTRY = "--id firmcast-recovery"
CMDLINE = "CMDLINE=no_timer_check console=ttyS0 panic=-1 ignore_loglevel"
GRUB_DEFAULTS = 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="console=ttyS0 no_timer_check panic=-1"\n'
# What `firmcast-mkrecovery --all` does about the entry when the images are made.
RENEW = "cd /usr/share/firmcast/initramfs && ./boot-entry renew /var/lib/firmcast/recovery /usr/sbin/firmcastd mkrecovery"
# What must be on the console of a machine that GRUB started once with the entry, in this order.
COURSE = ("rdinit=/usr/sbin/firmcastd efi=noruntime", "firmware is valid", "booting on", OS_IS_UP.strip("^$"))


@dataclasses.dataclass(frozen=True)
class FromDisk:
    """The machine's firmware starts what is on the disk."""

    def qemu_arguments(self):
        return []


class DiskHost(Server):
    """A machine that starts from its disk; its second flash chip holds the firmware that recovery judges. SeaBIOS starts
    GRUB of a BIOS machine, OVMF what is on an EFI system partition."""

    def __init__(self, lab, name, number, disk, firmware):
        # GRUB asks the BIOS for a screen.
        super().__init__(name, number, Machine(devices=("-device", "VGA")), lab.network, lab.folder, lab.sockets, FromDisk())
        self.disk = disk
        self.bank = lab.folder / f"{name}.bank"
        shutil.copyfile(lab.firmware.ovmf_old, self.bank)
        self.insert_flash(firmware)

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
        # No device asks for the driver of the lab's chip.
        "etc/firmcast/recovery.conf": f"OPTIONS=--load second_bank\n{CMDLINE}\n",
        "etc/default/grub": GRUB_DEFAULTS,
    }


def rescue_line(shop):
    _, said = shop.inside("firmcastd check")
    return next(line for line in said.splitlines() if " rescue " in line)


def archive_of(boot):
    """Where the private key goes: GRUB reads it from the root file system when /boot keeps no modes."""
    return "/var/lib/firmcast/rescue.cpio" if boot == "vfat" else "/boot/firmcast/rescue.cpio"


@scenario(limit_s=1500, on_demand=True)
def grub_entry_starts_recovery_once(lab):
    """firmcast-mkrecovery --boot-entry, with /boot in the root, on ext4 and on FAT: the entry is in GRUB's menu, `check`
    says so, and grub-reboot starts it once; recovery finds the firmware valid and boots on into the normal OS"""
    hosts, files = [], settings(lab)
    for number, boot in enumerate((None, "ext4", "vfat"), start=1):
        what = f"/boot {'on ' + boot if boot else 'in the root'}"
        disk = GrubDisk(lab, lab.folder / f"grub{number}.disk", boot, files)
        shop = Workshop(lab, disk)
        shop.open()
        shop.must("grub-install --target=i386-pc /dev/vda && update-grub")
        line = rescue_line(shop)
        lab.check(f"{what}: check says that nothing leads into recovery", "nothing brings this machine" in line, line)
        said = shop.must("firmcast-mkrecovery --boot-entry")
        lab.check(f"{what}: the image was current", "is current" in said, said)
        menu = shop.must("cat /boot/grub/grub.cfg")
        lab.check(f"{what}: the entry is in GRUB's menu, once", menu.count(ENTRY) == 1, menu[-3000:])
        line = rescue_line(shop)
        good = line.startswith("ok ") and "entry of grub" in line and archive_of(boot) in line
        lab.check(f"{what}: check is content, the private key is in {archive_of(boot)}", good, line)
        modes = shop.must(f"stat -c %a {archive_of(boot)}")
        lab.check(f"{what}: root alone reads it", modes.strip() == "600", modes)
        if boot == "vfat":
            status, said = shop.inside("firmcastd rescue-archive --output /boot/firmcast/rescue.cpio")
            lab.check("firmcastd puts no private key on FAT", status == 1 and "keeps no file modes" in said, said)
            lab.check("nothing of it is left there", "rescue" not in shop.must("ls /boot/firmcast"))
        if boot == "ext4":
            bad_days(lab, shop)
        shop.must("grub-reboot firmcast-recovery")
        shop.close()
        hosts.append((what, DiskHost(lab, f"grub{number}", number, disk.file, lab.firmware.seabios)))
    for _, host in hosts:
        lab.servers.append(host)
        host.start()
    for what, host in hosts:
        lab.wait_for(host, "(?s)" + ".*".join(COURSE), TIMEOUT_S)
        lab.check(f"{what}: GRUB started recovery, which found the firmware valid and booted on into the OS", True)
        frames = lab.network.frames_from(host)
        lab.check(f"{what}: it called nobody", frames == 0, frames)


def bad_days(lab, shop):
    """A newer kernel with a strange version comes when /boot is read-only or full; then it goes away again."""
    new, old = "6.9+x~y", lab.kernel.version
    shop.must(f"cp /boot/vmlinuz-{old} /boot/vmlinuz-{new}")
    shop.must(f"cp /var/lib/firmcast/recovery/{old}.img /var/lib/firmcast/recovery/{new}.img")
    for way, undo, why in (
        ("mount -o remount,ro /m/boot", "mount -o remount,rw /m/boot", "file system writable"),
        ("fallocate -l 150M /m/boot/full || dd if=/dev/zero of=/m/boot/full bs=1M", "rm /m/boot/full", "MiB free"),
    ):
        shop.command(way)
        status, said = shop.inside(RENEW)
        lab.check(f"a new kernel, {why}: it is told", status == 1 and why in said, said)
        line = rescue_line(shop)
        lab.check("check tells it, and the old entry is there", why in line and f"kernel {old}" in line, line)
        whole = shop.must(f"grep -c /recovery-{old}.img /boot/grub/grub.cfg; ls /boot/firmcast/recovery-{old}.img")
        lab.check("its image and its entry are whole", whole.startswith("1\n"), whole)
        shop.command(undo)
    said = shop.must(RENEW) + shop.must("cat /boot/grub/grub.cfg; ls /boot/firmcast")
    lab.check("with room, the new kernel takes its place", f"/recovery-{new}.img" in said and f"recovery-{old}" not in said, said)
    shop.must(f"rm /boot/vmlinuz-{new} /var/lib/firmcast/recovery/{new}.img; update-grub")
    lab.check("without its kernel GRUB has no entry that fails", ENTRY not in shop.must("cat /boot/grub/grub.cfg"))
    shop.must(RENEW)
    line = rescue_line(shop)
    lab.check("the next run goes back to the old kernel", line.startswith("ok ") and f"kernel {old}" in line, line)
    said = shop.must("firmcast-mkrecovery --boot-entry remove; cat /boot/grub/grub.cfg; ls /etc/grub.d /boot/firmcast")
    lab.check("remove leaves no entry", ENTRY not in said and "42_firmcast" not in said and "/recovery-" not in said, said)
    shop.must("firmcast-mkrecovery --boot-entry grub")


@scenario(limit_s=900, on_demand=True)
def fat_loaders_start_recovery(lab):
    """systemd-boot with the entry of --boot-entry, and UEFI firmware with its one file, from FAT: recovery finds the firmware
    valid and boots on"""
    packages.install("systemd-boot-efi")
    stubs = Path("/usr/lib/systemd/boot/efi")
    files = settings(lab)
    files["etc/firmcast/recovery.conf"] += "BOOT=/efi\n"
    stage = lab.folder / "fat.stage"
    make_debian(lab, stage, files)
    shutil.copytree(stubs, stage / "usr/lib/systemd/boot/efi")
    loader = stage / "efi/EFI/BOOT/BOOTX64.EFI"
    loader.parent.mkdir(parents=True)
    shutil.copy(stubs / "systemd-bootx64.efi", loader)
    (stage / "efi/loader").mkdir()
    status, said = enter(stage, "echo title other >/efi/loader/other; mkdir /efi/loader/entries; mv /efi/loader/other "
                                "/efi/loader/entries/other.conf; firmcast-mkrecovery --boot-entry systemd-boot")  # fmt: skip
    lab.check("an entry that would become the default is refused", status == 1 and "default" in said, said)
    (stage / "efi/loader/loader.conf").write_text("default firmcast-recovery.conf\ntimeout 0\n")
    status, said = enter(stage, "firmcast-mkrecovery --boot-entry systemd-boot")
    lab.check("systemd-boot has an entry", status == 0 and "bootctl set-oneshot" in said, said)
    disks = {"systemd-boot": lab.folder / "systemd-boot.disk", "one EFI file": lab.folder / "efi.disk"}
    fat_disk(disks["systemd-boot"], stage / "efi")
    status, said = enter(stage, "firmcast-mkrecovery --boot-entry efi")
    lab.check("a machine that is not started by UEFI gets no entry of the firmware", "boot in UEFI mode" in said, said)
    left = sorted(file.name for file in (stage / "efi").rglob("*") if file.is_file())
    lab.check("systemd-boot's entry is gone", left == ["BOOTX64.EFI", "loader.conf", "other.conf", "recovery.efi"], left)
    shutil.move(stage / "efi/EFI/firmcast/recovery.efi", loader)
    fat_disk(disks["one EFI file"], stage / "efi")
    shutil.rmtree(stage)
    hosts = []
    for number, (what, disk) in enumerate(disks.items(), start=1):
        host = DiskHost(lab, f"fat{number}", number, disk, lab.firmware.ovmf_new)
        hosts.append((what, host))
        lab.servers.append(host)
        host.start()
    for what, host in hosts:
        lab.wait_for(host, "(?s)" + ".*".join(COURSE[:-1]), TIMEOUT_S)
        lab.check(f"{what}: recovery found the firmware valid and booted on", True)
