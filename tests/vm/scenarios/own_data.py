"""Firmware that writes to its own chip at every start."""

import json

from lab import distribution
from lab.network import MANAGER_INTERFACE
from lab.own_data import AT_EACH_START, BOARD, CACHE, CHIP_BYTES, EVENTS, LOG, PROGRAMS, SERIALS, VARIABLES, image
from lab.scenario import scenario
from lab.shell import write
from lab.testbed import MANAGER_TIMEOUT_S, OS_IS_UP
from scenarios.rescues import CALLING
from scenarios.updates import RATE_MBIT

BOOTS = 4


@scenario(limit_s=1200)
def firmware_writes_itself(lab):
    """AMI's variables, an MRC cache, an event log, a closed management engine, and a log that nothing names and that is learned: the
    update is confirmed, all of that stays, and four boots of the hook find the firmware valid"""
    bios = lab.firmware.seabios.read_bytes()[-0x40000:]
    old, new = image("old", "this machine", bios), image("new", "the maker", bios)
    for name, contents in (("old", old), ("new", new)):
        (lab.folder / f"{name}.rom").write_bytes(contents)
    script = write(lab.folder / "firmware.sh", AT_EACH_START)
    server = lab.add_server(lab.folder / "old.rom", product=BOARD, files={"etc/firmware.sh": script})
    lab.boot(server)
    lab.check("the firmware has appended a variable", b"started again" in part(server, VARIABLES[0]))
    status, output = server.command("firmcastd check")
    lab.check("`firmcastd check` finds nothing in the way", status == 0, output)
    lab.enroll(server)
    learned = learn(lab, server)
    check_drill(lab, server)
    bundle = lab.manager.bundle(
        "new", lab.folder / "new.rom", version="2", product=BOARD, preserve=False, more=["--learned", learned]
    )  # fmt: skip
    check_bundle(lab, bundle)
    before = [part(server, own) for own in VARIABLES]
    server.mark()
    result = lab.update(bundle, "--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("the host is confirmed by its measurement", result, 0)
    lab.check_ends(result, 1, reason="confirmed")
    lab.check("the chip holds the new programs", part(server, PROGRAMS) == new[PROGRAMS.start : PROGRAMS.stop])
    for store, held in zip(VARIABLES, before):
        kept = part(server, store)
        written = held[: held.rindex(b"started again")]
        lab.check(f"the variables at {store.start:#x} are the machine's", kept.startswith(written), kept[:256])
        lab.check("and the firmware has gone on writing them", kept.count(b"started again") > held.count(b"started again"))
    for own, mark in ((LOG, b"log of this"), (CACHE, b"trained by this"), (EVENTS, b"event of this"), (SERIALS, b"number this")):
        lab.check(f"what belongs to the machine at {own.start:#x} stays", mark in part(server, own), part(server, own)[:64])
    status, output = server.command("firmcastd validate")
    lab.check("the firmware is valid by its record", status == 0 and "recorded as good" in output, output)
    check_hook(lab, server)


def part(server, where):
    """What the chip holds there."""
    return server.flash_bytes(where.start, len(where))


def learn(lab, server):
    """Two looks with a restart between them; returns the file with the ranges."""
    status, output = server.command("firmcastd learn")
    lab.check("the first look asks for another boot", status == 3 and "restart" in output, output)
    status, output = server.command("firmcastd learn")
    lab.check("so does another one in the same boot", status == 3 and "restart" in output, output)
    server.mark()
    server.command("(sleep 1; reboot -f) >/dev/null 2>&1 &")
    lab.wait_for(server, OS_IS_UP)
    status, output = server.command("firmcastd learn --json")
    lab.check("two boots teach something", status == 0, output)
    report = json.loads(output)
    (place,) = report["learned"]
    first, last = place["offset_bytes"], place["offset_bytes"] + place["length_bytes"]
    lab.check("the log is learned, and nothing but the log", first == LOG.start and last <= LOG.stop, output)
    lab.check("no program has changed", report["changed_programs"] == [], output)
    status, said = server.command("firmcastd learn")
    lab.check("it is remembered", f"so far: {first:#x}" in said, said)
    return write(lab.folder / "learned.json", output)


def check_drill(lab, server):
    """A drill with a canary brings home what that has learned."""
    bundle = lab.manager.bundle("drill", lab.folder / "new.rom", version="2", product=BOARD, preserve=False)
    learned = lab.folder / "drilled.json"
    options = ["--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT, "--learned", learned]
    result = lab.finish(lab.manager.start_campaign("drill", bundle, *options), MANAGER_TIMEOUT_S)
    lab.check_status("the canary came home from its drill", result, 0)
    report = json.loads(learned.read_text())
    places = [place["offset_bytes"] for place in report["learned"]]
    lab.check("it tells what its firmware writes", places == [LOG.start] and report["chip_bytes"] == CHIP_BYTES, report)


def check_bundle(lab, bundle):
    """What the bundle says it does with all that."""
    shown = lab.finish(lab.manager.start("bundle", "show", bundle, "--json"), 30)
    rules = {region["name"]: region["action"] for region in json.loads(shown.stdout)["regions"]}
    expected = {
        "fd": "preserve", "me": "volatile", "variable-store": "volatile", "variable-store-2": "volatile", "learned-1": "volatile",
        "RW_MRC_CACHE": "volatile", "RW_ELOG": "volatile", "RO_VPD": "preserve",
    }  # fmt: skip
    lab.check("the bundle keeps what belongs to the machine", rules == expected, rules)


def check_hook(lab, server):
    """The server starts from the distribution's initramfs ten times; each time the firmware writes to its chip before."""
    archive = distribution.rescue_archive(lab, server)
    server.power_cut()
    distribution.move_in(lab, server, "mkinitramfs", archive, "firmcast.recover=auto")
    for boot in range(BOOTS):
        write_as_firmware(server, boot)
        server.mark()
        server.start()
        lab.wait_for(server, distribution.OS_IS_UP)
        shown = server.console_since_mark()
        course = r"(?s)firmware is valid: [^\n]*recorded as good.*booting on.*" + distribution.OS_IS_UP.strip("^")
        lab.check(f"at boot {boot + 1} the hook finds the firmware valid and boots on", server.shows(course), shown[-3000:])
        lab.check("and asks nobody", not server.shows(CALLING), shown[-3000:])
        server.power_cut()


def write_as_firmware(server, boot):
    """An entry for both stores of variables, a line for the logs, and another cache."""
    chip = bytearray(server.flash.read_bytes())
    text = f"NVAR boot {boot} of the hook".encode().ljust(32)
    for where in (*VARIABLES, LOG, CACHE, EVENTS):
        free = chip.index(b"\xff" * 64, where.start + 0x80)
        chip[free : free + len(text)] = text
    server.flash.write_bytes(chip)
