"""What a server boots after its firmware: the light OS."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LightBoot:
    """The light OS, handed to the machine's firmware by QEMU, as a boot loader would."""

    kernel: Path
    initramfs: Path

    def qemu_arguments(self):
        """The part of QEMU's command line that says what to boot."""
        append = "console=ttyS0 panic=30"
        return ["-kernel", str(self.kernel), "-initrd", str(self.initramfs), "-append", append]
