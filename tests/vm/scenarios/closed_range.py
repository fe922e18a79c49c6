"""A board whose management engine's region is closed to the host, as on most Intel servers."""

import json

from lab import distribution
from lab.firmware import BOARD_WITH_ME, CHIP_BYTES, ME_BYTES, OVMF_VARIABLES_BYTES, with_me
from lab.network import MANAGER_INTERFACE
from lab.scenario import scenario
from scenarios.rescues import CALLING
from scenarios.updates import RATE_MBIT

CODE_START = CHIP_BYTES + OVMF_VARIABLES_BYTES
CLOSED = {"offset_bytes": ME_BYTES.start, "length_bytes": len(ME_BYTES)}
CLOSED_TEXT = f"{ME_BYTES.start:#x}-{ME_BYTES.stop - 1:#x}"


@scenario(limit_s=900)
def closed_range(lab):
    """The host may not read the management engine's region: checked, backed up, updated, confirmed and recorded around it, and
    the hook in a distribution's initramfs finds the firmware valid and lets the boot go on"""
    images = {}
    for name, ovmf in (("old", lab.firmware.ovmf_old), ("new", lab.firmware.ovmf_new)):
        images[name] = lab.folder / f"{name}-with-me.fd"
        images[name].write_bytes(with_me(ovmf.read_bytes(), name))
    old, new = images["old"].read_bytes(), images["new"].read_bytes()
    server = lab.add_server(images["old"], product=BOARD_WITH_ME)
    lab.boot(server)
    status, output = server.command(f"dd if=/dev/mtd0 of=/dev/null bs=4096 count=1 skip={ME_BYTES.start // 4096}")
    lab.check("the kernel fails reads of the closed region", status != 0, output)
    status, output = server.command("firmcastd check")
    lab.check("`firmcastd check` finds nothing in the way", status == 0, output)
    lab.check("it names what is closed to the host", f"{CLOSED_TEXT} is closed to this host" in output, output)
    lab.enroll(server)
    bundle = lab.manager.bundle("newer", images["new"], version="2", product=BOARD_WITH_ME, preserve=False)
    server.mark()
    result = lab.update(bundle, "--all", "--escrow", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("the host is confirmed by its measurement", result, 0)
    lab.check_ends(result, 1, reason="confirmed")
    lab.check("the host went through the recovery kernel", server.shows(r"Command line:.*\befi=noruntime"))
    lab.check("the chip holds the new firmware", server.flash_bytes(CODE_START) == new[CODE_START:])
    kept = server.flash_bytes(0, ME_BYTES.stop)
    lab.check("descriptor and closed region are as they were", kept == old[: ME_BYTES.stop])
    check_backup(lab, old)
    status, output = server.command("firmcastd validate --json")
    lab.check("the firmware is valid", status == 0, output)
    verdict = json.loads(output)
    lab.check("by the record of good firmware", "recorded as good" in verdict["by"][0], output)
    lab.check("the verdict names what it is not about", verdict["closed"] == [CLOSED], output)
    status, output = server.command("cat /var/lib/firmcast/known-good.json")
    closed = json.loads(output)["closed"]
    lab.check("so does the record", closed == [list(CLOSED.values())], output)
    check_hook(lab, server)


def check_hook(lab, server):
    """The server starts from the distribution's initramfs, with the archive that its agent has written."""
    archive = distribution.rescue_archive(lab, server)
    server.power_cut()
    chip = server.flash_bytes(0, ME_BYTES.stop)
    distribution.move_in(lab, server, "mkinitramfs", archive, "firmcast.recover=auto")
    server.mark()
    server.start()
    lab.wait_for(server, distribution.OS_IS_UP)
    shown = server.console_since_mark()
    lab.check("the kernel closes the region in the initramfs, too", server.shows("bios_flash: the host may not read"), shown[-3000:])
    lab.check("the hook says what it has not looked at", server.shows(rf"not looked at: {CLOSED_TEXT}"), shown[-3000:])
    course = r"(?s)firmware is valid: [^\n]*recorded as good.*booting on.*" + distribution.OS_IS_UP.strip("^")
    lab.check("it finds the firmware valid and boots on, before the OS is up", server.shows(course), shown[-3000:])
    lab.check("it asks nobody, so it waits for nobody", not server.shows(CALLING), shown[-3000:])
    lab.check("descriptor and closed region are as they were", server.flash_bytes(0, ME_BYTES.stop) == chip)


def check_backup(lab, old):
    """The backup holds all that the host could read, FFh for the rest, and says so."""
    listed = lab.finish(lab.manager.start(*lab.manager.credentials(), "backup", "list", "--json"), 30)
    (record,) = json.loads(listed.stdout)
    lab.check("the backup names what the host may not read", record["closed"] == [CLOSED], listed.output)
    backup = (lab.manager.state / "backups" / record["sha256"]).read_bytes()
    lab.check("it holds the BIOS as it was", backup[CODE_START:] == old[CODE_START:])
    lab.check("and FFh where the host may not read", set(backup[ME_BYTES.start : ME_BYTES.stop]) == {0xFF})
