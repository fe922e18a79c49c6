"""The MTD layer and the flash engine on the kernel's own simulated chips."""

from lab import binaries
from lab.scenario import scenario
from lab.server import TWO_CHIPS

NAND_BAD_BLOCKS = "3,100"

CHIPS = (
    # 4 MiB of NOR-like memory in eraseblocks of 64 KiB.
    ("mtdram", "modprobe mtdram total_size=4096 erase_size=64", "mtdram test device"),
    # A NAND of 16 MiB with pages of 512 bytes.
    (
        "nandsim with bad blocks",
        f"modprobe nandsim first_id_byte=0x20 second_id_byte=0x33 badblocks={NAND_BAD_BLOCKS}",
        "NAND simulator partition 0",
    ),
)


@scenario(limit_s=300, with_manager=False)
def mtd_layer_in_vm(lab):
    """The MTD layer and the flash engine on mtdram, on nandsim with bad blocks, on a BIOS chip, and on two that are joined"""
    files = {"bin/flash_exercise": binaries.flash_exercise()}
    server = lab.add_server(lab.firmware.ovmf_old, agent=False, product=TWO_CHIPS, two_chips=True, files=files)
    lab.boot(server)
    for what, load, device in CHIPS:
        status, output = server.command(load)
        lab.check(f"{what} is there", status == 0, output)
        exercise(lab, server, what, device)
    status, output = server.command("flash_exercise --device bios-low+bios-high --joint")
    lab.check("chips that are joined are one", status == 0, output)
    exercise(lab, server, "a chip that holds a half of this server's BIOS", "bios-high")


def exercise(lab, server, what, device):
    """Runs the exercise on one device."""
    status, output = server.command(f"flash_exercise --device '{device}' --destroy-contents", timeout_s=200)
    lab.check(f"flash_exercise passes on {what}", status == 0, f"status {status}\n{output}")
