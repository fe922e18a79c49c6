"""Power cuts in the middle of flashing, on a real kernel: QEMU is killed, started again, and the chip must end right."""

import os
import random
import re
import time

from lab.banks import Banks
from lab.firmware import CHIP_BYTES, ERASE_BLOCK_BYTES, OVMF_VARIABLES_BYTES, SECOND_BANK
from lab.scenario import scenario

CUTS = 12
# So many of them must have left a chip that is neither old nor new; on a busy machine some jobs are quicker than the plug.
CUTS_THAT_BROKE_MIN = 6
# The rescue is cut, too, every so many times.
RESCUE_CUT_EVERY = 4
STEP = r"^Writing (\d+)/(\d+)$"
END = r"^(end|FAIL|error)\b.*"
STEP_TIMEOUT_S = 60
JOB_TIMEOUT_S = 120
# What belongs to the machine: the variable store. Its last eraseblock is spare room, which holds something of this run.
PRESERVED = {"variables": (0, OVMF_VARIABLES_BYTES)}
OPTIONS = " ".join(f"--preserve {name},{offset},{length}" for name, (offset, length) in PRESERVED.items())


@scenario(limit_s=500, with_manager=False)
def power_cuts_while_flashing(lab):
    """The power is cut at 12 random moments of flashing, and sometimes again during the rescue: the chip ends right"""
    seed = int(os.environ.get("LAB_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"power cuts: seed {seed} (again with LAB_SEED={seed})", flush=True)
    cuts = Cuts(lab, random.Random(seed))
    cuts.machine.start()
    for number in range(1, CUTS + 1):
        cuts.cut("--update")
        if number % RESCUE_CUT_EVERY == 0:
            cuts.cut("--rescue")
        cuts.rescue()
    cuts.machine.power_cut()
    again = CUTS // RESCUE_CUT_EVERY
    what = f"after {CUTS} cuts of an update and {again} of its rescue"
    lab.check(f"{what}, the rescue brought the chip to the image, byte for byte", True)
    lab.check("after each cut and each rescue the preserved ranges were untouched", True)
    lab.check(
        f"{cuts.broke} of {CUTS + again} cuts left a chip that was neither old nor new (seed {seed})",
        cuts.broke >= CUTS_THAT_BROKE_MIN,
    )


class Cuts:
    """A chip between two real firmware images, and a machine that is killed on the way from one to the other."""

    def __init__(self, lab, rng):
        self._lab, self._rng = lab, rng
        images = {"old": lab.firmware.ovmf_old, "new": lab.firmware.ovmf_new}
        banks = Banks(lab, {f"images/{name}": path for name, path in images.items()})
        self._chip, self.machine = banks.chip, banks.machine
        store = lab.firmware.ovmf_old.read_bytes()[: OVMF_VARIABLES_BYTES - ERASE_BLOCK_BYTES]
        self._preserved = {"variables": store + rng.randbytes(ERASE_BLOCK_BYTES)}
        self._merged = {name: self._merge(path.read_bytes()) for name, path in images.items()}
        self._holds, self._target = "old", "new"
        self.broke = 0
        self._chip.write_bytes(self._merged["old"])
        assert len(self._merged["old"]) == len(self._merged["new"]) == CHIP_BYTES

    def _merge(self, image):
        """What the chip shall hold after an update to `image`."""
        merged = bytearray(image)
        for name, (offset, length) in PRESERVED.items():
            merged[offset : offset + length] = self._preserved[name]
        return bytes(merged)

    def cut(self, mode):
        """Kills the machine at a random moment of a job, looks at the chip, and starts the machine again."""
        while True:
            self.machine.begin(f"flash_exercise --device {SECOND_BANK} {mode} /images/{self._target} {OPTIONS}")
            if self._kill_at_a_random_step():
                break
            # It was quicker than the plug.
            self._settle(f"the {mode} that ended before its cut")
        held = self._chip.read_bytes()
        self._check_preserved(held)
        self.broke += held not in self._merged.values()
        self.machine.start()

    def _kill_at_a_random_step(self):
        """Says whether the job was still at work."""
        _, first = self.machine.read_until(rf"{STEP}|{END}", STEP_TIMEOUT_S)
        if not first.group(2):
            return False
        step = self._rng.randrange(1, max(2, int(first.group(2)) * 9 // 10))
        began, found = time.monotonic(), first
        while int(found.group(1)) < step:
            _, found = self.machine.read_until(rf"{STEP}|^(?:end|FAIL|error|Verifying)\b.*", STEP_TIMEOUT_S)
            if not found.group(2):
                break
        # Somewhere inside the step that follows, which takes about as long as those before.
        steps_seen = max(1, int(found.group(1) or step) // 16)
        time.sleep(self._rng.random() * min(0.1, (time.monotonic() - began) / steps_seen))
        self.machine.power_cut()
        return True

    def rescue(self):
        """Brings the chip to the image that the update was on its way to."""
        self.machine.begin(f"flash_exercise --device {SECOND_BANK} --rescue /images/{self._target} {OPTIONS}")
        self._settle("the rescue")

    def _settle(self, what):
        """Waits for the end of a job and compares the chip with its image from outside; the next job goes the other way."""
        _, end = self.machine.read_until(END, JOB_TIMEOUT_S)
        status = self.machine.read_until(r"^machine: done (\d+)$", STEP_TIMEOUT_S)[1].group(1)
        whole = re.match(r"end: the flash holds the new firmware; a reboot is safe", end.group())
        self._check(f"{what} ends with the whole image", whole and status == "0", end.group())
        held = self._chip.read_bytes()
        self._check_preserved(held)
        self._check(f"the chip holds the image after {what}", held == self._merged[self._target])
        self._holds, self._target = self._target, self._holds

    def _check_preserved(self, held):
        for name, (offset, length) in PRESERVED.items():
            self._check(f"preserved range {name} is untouched", held[offset : offset + length] == self._preserved[name])

    def _check(self, what, holds, found=""):
        """The many checks of this scenario are reported together at its end."""
        if not holds:
            self._lab.check(what, False, found)
