"""What a server boots after its firmware. QEMU hands kernel and initramfs to the firmware, as a boot loader would."""

from dataclasses import dataclass
from pathlib import Path

# The kernel's check of the timer interrupt counts ticks in real time, of which a loaded TCG machine gets too few.
# What QEMU emulates. It stores byte by byte with what ERMS and FSRM promise to be quick, so the kernel must not use them: clearing one
# page of memory has taken minutes where translated code lay in it.
CPU = "max,erms=off,fsrm=off"
QUIRKS = "console=ttyS0 no_timer_check"


@dataclass(frozen=True)
class Boot:
    """A kernel, the lab's initramfs, and the kernel's command line."""

    kernel: Path
    initramfs: Path
    command_line: str

    def qemu_arguments(self):
        """The part of QEMU's command line that says what to boot."""
        return ["-kernel", str(self.kernel), "-initrd", str(self.initramfs), "-append", self.command_line]


def light(kernel, initramfs):
    """The light OS, all in the initramfs."""
    return Boot(kernel, initramfs, f"{QUIRKS} panic=30")


def debian(kernel, initramfs):
    """A whole Debian on the server's disk; its journal shows on the console too."""
    return Boot(
        kernel, initramfs, f"{QUIRKS} panic=30 rdinit=/init-root systemd.journald.forward_to_console=1"
    )
