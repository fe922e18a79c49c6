"""A machine with two flash chips: it starts from one, the other may be broken and rescued."""

import shutil

from . import binaries
from .boot import QUIRKS
from .console_machine import ConsoleMachine, initramfs, with_dependencies
from .initramfs import BUSYBOX

MEMORY_MIB = 256
# The name that the kernel gives to the chip.
DEVICE = "physmap-flash"
# SeaBIOS starts Linux from a chip in a fraction of the time that OVMF takes.


class Banks:
    """The machine and the file of its second chip."""

    def __init__(self, lab, files):
        self.chip = lab.folder / "second-bank.flash"
        good = lab.folder / "good-bank.flash"
        shutil.copyfile(lab.firmware.seabios, good)
        modules = with_dependencies(lab.kernel, "physmap", "cfi_probe", "cfi_cmdset_0001")
        modules.append((lab.kernel.module("second_bank"), ""))
        programs = {"bin/flash_exercise": binaries.flash_exercise()}
        system = initramfs("banks", BUSYBOX, modules, programs | files)
        self.machine = ConsoleMachine(
            "banks",
            [
                "qemu-system-x86_64", "-nodefaults", "-M", "q35,accel=tcg", "-cpu", "max", "-m", MEMORY_MIB,
                "-drive", f"if=pflash,unit=0,format=raw,file={good}",
                "-drive", f"if=pflash,unit=1,format=raw,file={self.chip}",
                "-kernel", lab.kernel.image, "-initrd", system, "-append", f"{QUIRKS} quiet panic=-1",
            ],
            lab.folder / "banks.console",
        )  # fmt: skip
