"""A distribution's own initramfs with firmcast's hook in it, made by the distribution's tool in a Debian of its own."""

import base64
import shutil
from pathlib import Path

from . import binaries, packages
from .boot import QUIRKS, Boot
from .cache import cached
from .initramfs import BUSYBOX
from .paths import PROJECT
from .shell import run, run_with_retries, write

SUITE = "bookworm"
PACKAGES = {"mkinitramfs": "initramfs-tools,zstd", "dracut": "dracut,zstd,systemd"}
# Drivers of the root disk; an administrator who wants a small initramfs names them, too.
DRIVERS = ("virtio_pci", "virtio_blk", "ext4")
COMMAND = {"mkinitramfs": "mkinitramfs -o /boot/initrd.img {version}", "dracut": "dracut --force /boot/initrd.img {version}"}
# Where the packages put the hook's files.
PLACES = {
    "initramfs-tools": "usr/share/initramfs-tools",
    "dracut/90firmcast": "usr/lib/dracut/modules.d/90firmcast",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OS_IS_UP = r"^lab: the OS is up after ([0-9.]+) s"
OS_WORDS = f"{QUIRKS} root=/dev/vda ro panic=-1 ignore_loglevel"
# With this word the OS on the root disk stays up.
STAY = "lab.stay"
ROOT_INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
read -r up rest </proc/uptime
echo "lab: the OS is up after $up s" >/dev/console
case "$(/bin/busybox cat /proc/cmdline)" in *lab.stay*) exec /bin/busybox sleep 1000000 ;; esac
/bin/busybox poweroff -f
"""


def tree(tool):
    """A Debian with the tool that makes its initramfs."""
    packages.install("debootstrap")

    def make(folder):
        run_with_retries("debootstrap", "--variant=minbase", f"--include={PACKAGES[tool]}", SUITE, folder / "tree")
        shutil.rmtree(folder / "tree/var/cache/apt", ignore_errors=True)

    return cached(f"distribution-{tool}", [SUITE, PACKAGES[tool]], make) / "tree"


def _configuration(tool, drivers):
    if tool == "mkinitramfs":
        return {
            "etc/initramfs-tools/conf.d/lab": "MODULES=list\n",
            "etc/initramfs-tools/modules": "".join(f"{name}\n" for name in drivers),
        }
    names = " ".join(drivers)
    return {
        "etc/dracut.conf.d/lab.conf": f'hostonly="no"\ndrivers=" {names} "\nforce_drivers=" {names} "\n'
        'filesystems="ext4"\nomit_dracutmodules+=" plymouth lvm dm mdraid crypt multipath btrfs nfs iscsi i18n "\n'
    }


def initramfs(lab, tool, rescue_archive, chip_driver="second_bank"):
    """The initramfs for the lab's kernel: what an administrator gets who installs the package and writes the archive.
    `chip_driver` is the lab's module for the chip."""
    stage = lab.folder / f"{tool}.stage"
    # Nothing here changes a file in place: those that stay the same share their storage with the cached tree.
    run("cp", "-al", tree(tool), stage)
    modules = stage / "lib/modules" / lab.kernel.version
    modules.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "-al", (lab.kernel.root / "lib/modules" / lab.kernel.version).resolve(), modules)
    (modules / "updates").mkdir()
    shutil.copy(lab.kernel.module(chip_driver), modules / "updates")
    run("depmod", "-b", stage, lab.kernel.version)
    shutil.copy(lab.kernel.root / f"boot/config-{lab.kernel.version}", stage / "boot")
    _install_package(stage)
    (stage / "boot/firmcast").mkdir()
    shutil.copy(rescue_archive, stage / "boot/firmcast/rescue.cpio")
    for place, text in _configuration(tool, (*DRIVERS, chip_driver)).items():
        (stage / place).unlink(missing_ok=True)
        write(stage / place, text)
    said = run_inside(stage, COMMAND[tool].format(version=lab.kernel.version))
    (lab.folder / f"{tool}.log").write_text(said)
    # The hook rather leaves itself out than that it breaks an initramfs.
    lab.check(f"{tool} has nothing to say about firmcast", "firmcast: there is no" not in said, said)
    made = lab.folder / f"{tool}.initrd"
    shutil.move(stage / "boot/initrd.img", made)
    shutil.rmtree(stage)
    return made


def run_inside(stage, command):
    """Runs a command of the distribution in `stage`; returns what it said."""
    # A root of its own: the command may make a mount namespace.
    root = f'mount --bind "{stage}" "{stage}" && cd "{stage}" && mount --rbind /dev dev && mount -t proc proc proc'
    return run("unshare", "--mount", "sh", "-c", f"{root} && env -i PATH={PATH} chroot . {command} 2>&1")


def recovery_initramfs(lab, tool, modules_dir):
    """The recovery initramfs that firmcast-mkrecovery makes with the tool of this distribution, for the kernel's modules
    below `modules_dir`."""
    stage = lab.folder / f"recovery-{tool}.stage"
    run("cp", "-al", tree(tool), stage)
    run("cp", "-al", modules_dir, stage / "kernel")
    _install_package(stage)
    command = "/usr/share/firmcast/initramfs/firmcast-mkrecovery --tool {} --kernel-version {} --modules-dir /kernel --output {}"
    said = run_inside(stage, command.format(tool, lab.kernel.version, "/boot/recovery.img"))
    (lab.folder / f"recovery-{tool}.log").write_text(said)
    made = lab.folder / f"recovery-{tool}.img"
    shutil.move(stage / "boot/recovery.img", made)
    shutil.rmtree(stage)
    return made


def rescue_archive(lab, server):
    """The archive for the hook, which the server's agent writes, as a file of the lab."""
    command = "firmcastd rescue-archive --output /tmp/rescue.cpio 2>&1 && base64 /tmp/rescue.cpio && sync"
    status, output = server.command(command)
    lab.check("the agent writes the archive for the hook", status == 0, output)
    archive = lab.folder / "rescue.cpio"
    archive.write_bytes(base64.b64decode(output[output.index("MDcw") :]))
    return archive


def move_in(lab, server, tool, rescue_archive, words):
    """From its next start on `server`, which is off, has another disk: this distribution's initramfs with the hook starts an
    OS from it. `words` are on the kernel's command line, too."""
    image = initramfs(lab, tool, rescue_archive, chip_driver="bios_flash")
    root_disk(server.disk)
    server.boot_next(Boot(lab.kernel.image, image, f"{OS_WORDS} {STAY} {words}"))


def _install_package(stage):
    shutil.copy(binaries.firmcastd(), stage / "usr/sbin/firmcastd")
    files = stage / "usr/share/firmcast/initramfs"
    files.mkdir(parents=True)
    for file in (PROJECT / "initramfs").iterdir():
        if file.is_file():
            shutil.copy(file, files)
    for source, place in PLACES.items():
        shutil.copytree(PROJECT / "initramfs" / source, stage / place, dirs_exist_ok=True)


def root_disk(file):
    """A disk with as little of an OS as says that it is up."""
    stage = Path(f"{file}.stage")
    for name in ("bin", "dev", "proc", "run", "sys", "etc", "usr/lib"):
        (stage / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, stage / "bin/busybox")
    write(stage / "sbin/init", ROOT_INIT).chmod(0o755)
    # By this systemd sees that it is a root file system.
    write(stage / "etc/os-release", "ID=lab\n")
    with open(file, "wb") as disk:
        disk.truncate(16 * 1024 * 1024)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", stage, file)
    shutil.rmtree(stage)
    return file
