"""Chips that go away in the middle of a job, and NAND whose bits flip."""

import re

from lab.banks import Banks
from lab.firmware import CHIP_BYTES, SECOND_BANK
from lab.initramfs import BUSYBOX
from lab.scenario import scenario

END = r"^(end|FAIL)\b.*"
JOB_TIMEOUT_S = 120
UNBIND = f"echo {SECOND_BANK} > /sys/bus/platform/drivers/physmap-flash/unbind"
BIND = f"echo {SECOND_BANK} > /sys/bus/platform/drivers/physmap-flash/bind"


@scenario(limit_s=300, with_manager=False)
def chip_vanishes(lab):
    """The chip's driver is taken away in the middle of flashing: the job ends, claims no success, and a rescue heals"""
    images = {"images/old": lab.firmware.ovmf_old, "images/new": lab.firmware.ovmf_new}
    banks = Banks(lab, images)
    banks.chip.write_bytes(lab.firmware.ovmf_old.read_bytes())
    machine = banks.machine
    machine.start()
    # The job runs beside the shell, which pulls the driver when the first blocks are written.
    status, said = machine.command(
        f"flash_exercise --device {SECOND_BANK} --update /images/new > /work/log & job=$!; "
        f"while ! grep -q 'Writing 64/' /work/log && kill -0 $job; do usleep 1000; done; {UNBIND}; echo unbound $?; "
        "wait $job; echo job $?; cat /work/log",
        JOB_TIMEOUT_S,
    )
    job = re.search(r"^job (\d+)$", said, re.MULTILINE)
    lab.check("the driver was taken away in the middle of the job", "unbound 0" in said and "Writing 64/" in said, said[-3000:])
    failed = job and job.group(1) == "1" and re.search(r"^error: ", said, re.MULTILINE)
    lab.check("the job ended by itself, with an error", failed, said[-3000:])
    lab.check("it says that a reboot is not safe", "do not reboot or power off" in said, said[-3000:])
    held = banks.chip.read_bytes()
    lab.check("the chip is half-written", held not in (images["images/old"].read_bytes(), images["images/new"].read_bytes()))
    status, said = machine.command(f"{BIND}; flash_exercise --device {SECOND_BANK} --rescue /images/new", JOB_TIMEOUT_S)
    lab.check("after its return a rescue succeeds", status == 0, said[-3000:])
    lab.check("the chip holds the image", banks.chip.read_bytes()[:CHIP_BYTES] == lab.firmware.ovmf_new.read_bytes())
    machine.power_cut()


RAM = "mtdram test device"
# Total and eraseblock size in KiB, and what is wrong with them.
ODD_SIZES = ((100, 48, "a size that is no multiple of its eraseblocks"), (64, 128, "an eraseblock larger than itself"))


@scenario(limit_s=200, with_manager=False)
def odd_chips(lab):
    """Chips of impossible sizes are refused; a module whose chip is being flashed cannot be removed"""
    machine = Banks(lab, {}, at_hand="mtdram").machine
    machine.start()
    machine.command("dd if=/dev/urandom of=/work/image bs=1k count=64")
    update = f"flash_exercise --device '{RAM}' --update /work/image"
    for total, erase, what in ODD_SIZES:
        status, said = machine.command(f"insmod /lib/mtdram.ko total_size={total} erase_size={erase}")
        lab.check(f"the kernel makes a chip with {what}", status == 0, said)
        status, said = machine.command(update)
        lab.check(f"it is refused: {said.strip()}", status == 1 and re.fullmatch(r"FAIL .*\n", said), said)
        lab.check("and it can go", machine.command("rmmod mtdram")[0] == 0)
    status, said = machine.command("insmod /lib/mtdram.ko total_size=0 erase_size=4")
    lab.check("the kernel makes no chip of size 0", status != 0, said)
    status, said = machine.command(
        f"insmod /lib/mtdram.ko total_size=64 erase_size=4; "
        f"{update} | (while read -r line; do rmmod mtdram 2>&1; done) | sort | uniq -c"
    )
    lab.check(f"the module of a chip in use stays: {said.strip()}", "busy" in said or "unavailable" in said, said)
    machine.power_cut()


NAND = "NAND simulator partition 0"
# A NAND of 16 MiB with pages of 512 bytes in eraseblocks of 16 KiB, whose ECC corrects one bit in 256 bytes.
NANDSIM = "insmod /lib/nandsim.ko first_id_byte=0x20 second_id_byte=0x33"
NAND_TIMEOUT_S = 200
NAND_PAGES_PER_BLOCK = 32
NAND_BLOCK_BYTES = 16 * 1024
IMAGES = "dd if=/dev/urandom of=/work/a bs=16k count=64; dd if=/dev/urandom of=/work/b bs=16k count=64"


def with_nand(lab, machine, what, parameters, command):
    """Runs a command on a NAND with faults; returns its status and output."""
    status, output = machine.command(f"{NANDSIM} {parameters}", NAND_TIMEOUT_S)
    lab.check(f"a NAND is there with {what}", status == 0, output)
    status, output = machine.command(command, NAND_TIMEOUT_S)
    left = machine.command("rmmod nandsim", NAND_TIMEOUT_S)
    lab.check(f"the NAND with {what} can go: nothing holds it", left[0] == 0, left[1] + output[-2000:])
    return status, output


@scenario(limit_s=400, with_manager=False)
def nand_errors(lab):
    """NAND whose bits flip: what ECC corrects does not disturb, what it cannot correct is refused or said"""
    machine = Banks(lab, {}, at_hand="nandsim").machine
    machine.start()
    lab.check("images are made", machine.command(IMAGES)[0] == 0)
    corrected_bits(lab, machine)
    lost_page(lab, machine)
    worn_block(lab, machine)
    machine.power_cut()


def corrected_bits(lab, machine):
    """Single bits flip at random on reading."""
    status, output = with_nand(
        lab, machine, "flipping bits", "bitflips=1", f"flash_exercise --device '{NAND}' --destroy-contents"
    )
    lab.check("flash_exercise passes while bits flip", status == 0 and "FAIL" not in output, output)
    counters = re.search(r"corrected_bits: (\d+), failed: (\d+)", output)
    lab.check(f"ECC corrected bits and failed never ({counters.group()})", int(counters[1]) > 0 and int(counters[2]) == 0, output)


def lost_page(lab, machine):
    """A page loses its data after some reads: those that prove the first update."""
    block = 5
    job = f"flash_exercise --device '{NAND}'"
    status, output = with_nand(
        lab, machine, "a page that is lost", f"gravepages={block * NAND_PAGES_PER_BLOCK + 7}:2",
        f"{job} --update /work/a | tail -n 1; {job} --update /work/b >/work/log; echo second $?; tail -n 2 /work/log; "
        f"{job} --rescue /work/b >/work/log; echo third $?; tail -n 2 /work/log",
    )  # fmt: skip
    first, _, rest = output.partition("second ")
    second, _, third = rest.partition("third ")
    lab.check("the first update ends well", "the flash holds the new firmware" in first, output)
    start, end = block * NAND_BLOCK_BYTES, (block + 1) * NAND_BLOCK_BYTES - 1
    refused = second.startswith("1") and "nothing was changed" in second and "for the backup" in second
    lab.check(f"the second is refused: it cannot read its backup, at {start:#x}", refused and f"{start:#x}" in second, output)
    unread = f"what the flash holds could not be read: {start:#x}-{end:#x} unknown"
    lab.check("a rescue claims no success and names the block", third.startswith("1") and unread in third, output)
    lab.check("it says that a reboot is not safe", "do not reboot or power off" in third, output)


def worn_block(lab, machine):
    """An eraseblock takes one erase; the second fails when its contents are gone already."""
    block = 9
    update = f"flash_exercise --device '{NAND}' --update"
    status, output = with_nand(
        lab, machine, "a block that takes one erase", f"weakblocks={block}:1",
        f"{update} /work/a | tail -n 1; {update} /work/b >/work/log; echo second $?; tail -n 2 /work/log",
    )  # fmt: skip
    first, _, second = output.partition("second ")
    lab.check("the first update ends well", "the flash holds the new firmware" in first, output)
    mixed = f"neither all new nor all old: {block * NAND_BLOCK_BYTES:#x}-{(block + 1) * NAND_BLOCK_BYTES - 1:#x} erased"
    only = second.startswith("1") and mixed in second
    lab.check("the second fails and names the block, the only one that is not as before", only, output)
    lab.check("it says that a reboot is not safe", "do not reboot or power off" in second, output)
