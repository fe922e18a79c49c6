"""Bundles for a part of a chip, and for a chip that is divided anew."""

import json

from lab.firmware import CHIP_BYTES, OVMF_VARIABLES_BYTES, descriptor_with_network, mark_free_space
from lab.makers_files import cabinet, capsule
from lab.network import MANAGER_INTERFACE
from lab.scenario import scenario
from lab.server import TWO_CHIPS
from lab.shell import write
from lab.testbed import BOOT_TIMEOUT_S, OS_IS_UP
from scenarios.foresight import BUNDLES, plan_of
from scenarios.updates import RATE_MBIT

# Where the network controller's data is before the layout changes, and behind it.
OLD_NETWORK, NEW_NETWORK = range(0x1000, 0x3000), range(0x4000, 0x6000)
# An eraseblock of the chip is 4 KiB.
BIOS = range(0x80000, CHIP_BYTES)
MAC = bytes.fromhex("525400c0ffee")


@scenario(limit_s=900)
def parts_of_a_chip(lab):
    """A BIOS region in a capsule in a cabinet becomes a bundle that leaves the rest byte for byte; one with another layout takes
    the MAC address along; both are foretold from a dump of the chip, and what would lose the MAC address is refused"""
    seabios = lab.firmware.seabios.read_bytes()[-0x40000:]
    old, new = image(OLD_NETWORK, "old", MAC, seabios), image(NEW_NETWORK, "new", bytes(6), seabios)
    for name, contents in (("old", old), ("new", new)):
        (lab.folder / f"{name}.rom").write_bytes(contents)
    (lab.folder / "bios.cab").write_bytes(cabinet("bios.cap", capsule(new[BIOS.start :]), "2"))
    part = make(lab, "part", "bios.cab", "--region", "bios", "--strip-capsule")
    careless = make(lab, "careless", "new.rom", "--new-layout")
    moving = make(lab, "moving", "new.rom", "--new-layout", "--replace", "descriptor", version="3")
    bundles = {f"{BUNDLES}/{file.name}": file for file in (part, careless, moving)}
    server = lab.add_server(lab.folder / "old.rom", files=bundles)
    lab.boot(server)
    lab.enroll(server)

    check_foretold(lab, server, part, "bios")
    result = lab.update(part, "--all", "--escrow", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("the host with the new BIOS region is confirmed", result, 0)
    lab.check("the BIOS region is the bundle's", server.flash_bytes(BIOS.start) == new[BIOS.start :])
    lab.check("all else is as it was", server.flash_bytes(0, BIOS.start) == old[: BIOS.start])
    status, output = server.command("firmcastd validate")
    lab.check("the chip is what was recorded as good", "recorded as good" in output, output)
    backup = lab.finish(lab.manager.start(*lab.manager.credentials(), "bundle", "try", part, *trust(lab), "--backups"), 60)
    lab.check("the bundle is tried on the backup, too", "all of 1 hosts would take it" in backup.stdout, backup.output)

    refused = plan_of(lab, server, careless, 1)
    lab.check("a layout that the kept descriptor contradicts is refused", "descriptor" in refused["detail"], refused)
    lab.check("and no flag is named that would lose something", "--new-layout" not in json.dumps(refused), refused)
    dry = lab.update(careless, "--all", "--dry-run")
    lab.check_ends(dry, 1, reason="layout-mismatch", flash="untouched")
    plan = check_foretold(lab, server, moving, "moving")
    lab.check("the plan tells what moves", plan["moved"][0]["to_offset_bytes"] == NEW_NETWORK.start, plan["moved"])
    result = lab.update(moving, "--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("the host with the new layout is confirmed", result, 0)
    expected = bytearray(new)
    expected[NEW_NETWORK.start : NEW_NETWORK.stop] = old[OLD_NETWORK.start : OLD_NETWORK.stop]
    held = server.flash_bytes()
    lab.check("the MAC address is at its new place", held[NEW_NETWORK.start :][:6] == MAC, held[NEW_NETWORK.start :][:16])
    lab.check("and the chip is the new image with it", held == bytes(expected))


@scenario(limit_s=900)
def two_chips_are_one_bios(lab):
    """A BIOS that lies in two chips is updated in both by one campaign, from the images of the two; then in one of them alone;
    names in the wrong order are refused, and a half of another version"""
    old, new = lab.firmware.ovmf_old.read_bytes(), lab.firmware.ovmf_new.read_bytes()
    half = CHIP_BYTES // 2
    marked = mark_free_space(new)
    for name, contents in (("low", new[:half]), ("high", new[half:]), ("old-high", old[half:]), ("marked-high", marked[half:])):
        (lab.folder / f"{name}.rom").write_bytes(contents)
    both = make(lab, "both", "low.rom", "--image", lab.folder / "high.rom", preserve=True, product=TWO_CHIPS)
    upper = ("--region", f"high={half:#x}:{half:#x}")
    mixed = make(lab, "mixed", "old-high.rom", *upper, version="3", product=TWO_CHIPS)
    one = make(lab, "one", "marked-high.rom", *upper, version="3", product=TWO_CHIPS)
    server = lab.add_server(lab.firmware.ovmf_old, product=TWO_CHIPS, two_chips=True, files={f"{BUNDLES}/{both.name}": both})
    lab.boot(server)
    lab.enroll(server)

    check_foretold(lab, server, both, "both")
    turned = "/etc/firmcast/turned.toml"
    server.command(f"sed s/bios-low+bios-high/bios-high+bios-low/ /etc/firmcast/agent.toml > {turned}")
    status, output = server.command(f"firmcastd plan --config {turned} --bundle /state/{BUNDLES}/{both.name}", timeout_s=60)
    lab.check("chips in the wrong order are refused", status == 1 and "wrong order" in output, output)
    status, output = server.command(f"firmcastd check --config {turned}", timeout_s=120)
    lab.check("and told by the check", status == 1 and "wrong order" in output, output)

    result = lab.update(both, "--all", "--escrow", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("the host with both chips new is confirmed", result, 0)
    held = server.flash_bytes(OVMF_VARIABLES_BYTES)
    lab.check("both chips hold their halves", held == new[OVMF_VARIABLES_BYTES:])
    # The variables are in the lower chip.
    options = ("--all", "--no-variable-store-known", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    server.mark()
    lab.check_ends(lab.update(mixed, *options), 1, reason="image-invalid", flash="untouched")
    lab.wait_for(server, OS_IS_UP, BOOT_TIMEOUT_S)
    lab.check("halves of two versions are not mixed", server.flash_bytes(OVMF_VARIABLES_BYTES) == held)
    result = lab.update(one, *options)
    lab.check_status("the host with one chip changed is confirmed", result, 0)
    lab.check("both chips are what they should be", server.flash_bytes(OVMF_VARIABLES_BYTES) == marked[OVMF_VARIABLES_BYTES:])


def image(network, name, mac, seabios):
    """A whole chip; `name` decides what its BIOS region is like."""
    chip = bytearray(b"\xff" * CHIP_BYTES)
    chip[:0x1000] = descriptor_with_network(network, BIOS)
    data = mac + f" of {name}".encode()
    chip[network.start : network.start + len(data)] = data
    chip[BIOS.start : BIOS.start + 0x1000] = f"BIOS {name} ".encode().ljust(16) * 256
    chip[-len(seabios) :] = seabios
    return bytes(chip)


def make(lab, name, file, *more, version="2", preserve=False, **board):
    return lab.manager.bundle(name, lab.folder / file, version=version, preserve=preserve, more=more, **board)


def trust(lab):
    return ["--trust", lab.manager.release_key.with_suffix(".pub")]


def check_foretold(lab, server, bundle, name):
    """What the host would do is what `bundle try` makes of its dump. Returns the plan."""
    on_host = plan_of(lab, server, bundle, 0)
    status, output = server.command(f"firmcastd backup --output /tmp/{name}.bin && cat /tmp/{name}.bin.json", timeout_s=60)
    lab.check("the host writes what its chip holds", status == 0, output)
    dump = lab.folder / f"{name}.dump"
    dump.write_bytes(server.flash_bytes())
    _, digest = server.command(f"sha256sum /tmp/{name}.bin")
    lab.check("byte for byte", server.flash_digest() in digest, digest)
    board = write(lab.folder / f"{name}.board", output[output.index("{") : output.rindex("}") + 1])
    command = ["bundle", "try", bundle, *trust(lab), "--chip", dump, "--board", board, "--json"]
    tried = lab.finish(lab.manager.start(*command), 60)
    foretold = json.loads(tried.stdout)
    differing = {key: (value, foretold.get(key)) for key, value in on_host.items() if value != foretold.get(key) and key != "device"}
    lab.check(f"bundle try foretells what the host plans for {bundle.name}", not differing, differing)
    return on_host
