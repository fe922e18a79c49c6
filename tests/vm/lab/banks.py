"""A machine with two flash chips: it starts from one, the other may be broken and rescued."""

import shutil

from . import binaries
from .boot import CPU, QUIRKS
from .console_machine import ConsoleMachine, initramfs, with_dependencies
from .firmware import CHIP_BYTES
from .initramfs import BUSYBOX

MEMORY_MIB = 256


class Banks:
    """The machine and the file of its second chip. `files` come into its memory (place there -> file here); `at_hand` is a
    module that is there as /lib/NAME.ko, with what it needs loaded, but not loaded itself."""

    def __init__(self, lab, files, at_hand=None):
        self.chip = lab.folder / "second-bank.flash"
        good = lab.folder / "good-bank.flash"
        # SeaBIOS starts Linux in a fraction of the time that OVMF takes.
        shutil.copyfile(lab.firmware.seabios, good)
        self.chip.write_bytes(b"\xff" * CHIP_BYTES)
        modules = with_dependencies(lab.kernel, "physmap", "cfi_probe", "cfi_cmdset_0001")
        modules.append((lab.kernel.module("second_bank"), ""))
        if at_hand:
            *needed, (module, _) = with_dependencies(lab.kernel, at_hand)
            modules = [*modules, *(found for found in needed if found not in modules)]
            files = files | {f"lib/{at_hand}.ko": module}
        programs = {"bin/flash_exercise": binaries.flash_exercise()}
        system = initramfs("banks", BUSYBOX, modules, programs | files)
        self.machine = ConsoleMachine(
            "banks",
            [
                "qemu-system-x86_64", "-nodefaults", "-M", "q35,accel=tcg", "-cpu", CPU, "-m", MEMORY_MIB,
                "-drive", f"if=pflash,unit=0,format=raw,file={good}",
                "-drive", f"if=pflash,unit=1,format=raw,file={self.chip}",
                "-kernel", lab.kernel.image, "-initrd", system, "-append", f"{QUIRKS} quiet panic=-1",
            ],
            lab.folder / "banks.console",
        )  # fmt: skip
