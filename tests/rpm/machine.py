"""A virtual machine that starts from a kernel and a recovery image that a package manager's run has left."""

from lab.boot import Boot
from lab.dead_host import RECOVERY_WORDS, append, rescue_archive
from lab.testbed import RESCUE_THEN_OFF, Lab

BOOT_TIMEOUT_S = 240


def healthy_bank(folder, kernel, image):
    """Starts a machine with a whole bank; returns what held."""
    with Lab(folder) as lab:
        bank = lab.firmware.ovmf_old.read_bytes()
        host = lab.add_dead_host(bank, managers=("firmcast://10.77.0.1:9848",))
        archive = rescue_archive(lab, host.name, key=lab.manager.folder / f"{host.name}.key")
        initramfs = folder / "initramfs"
        append(initramfs, image, archive)
        host.boot_next(Boot(kernel, initramfs, f"{RECOVERY_WORDS} {RESCUE_THEN_OFF}"))
        host.start()
        lab.wait_until(lambda: host.is_off, BOOT_TIMEOUT_S, f"the end of {host.name}")
        said = host.console()[-3000:]
        lab.check("the root's kernel with the root's recovery image: the bank is valid", host.shows(r"firmware is valid: "), said)
        lab.check("it boots on", host.shows(r"booting on"), said)
        lab.check("not one byte in the bank changed", host.bank.read_bytes() == bank)
        return list(lab.checked)
