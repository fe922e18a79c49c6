"""Firmware that something damages again after each rescue."""

from lab import distribution
from lab.boot import Boot
from lab.manager import events
from lab.own_data import BOARD, PROGRAMS, image
from lab.scenario import scenario
from scenarios.rescues import RATE_MBIT, STORED, serve, stop

RESCUES = 3
REPAIRED = r"(?s)firmware is invalid at .*left word for the normal OS"
GIVES_UP = rf"(?s)firmware is invalid at .*{RESCUES} rescues were in vain.*" + distribution.OS_IS_UP.strip("^")
POLICY = "gather_s = 0"


@scenario(limit_s=360)
def rescue_loop_ends(lab):
    """A chip that is damaged again at each start is rescued three times; at the fourth the hook asks for no image, tells a
    manager that has just been restarted, and boots on"""
    whole = image("good", "this machine", lab.firmware.seabios.read_bytes()[-0x40000:])
    (lab.folder / "good.rom").write_bytes(whole)
    # The mailbox lies on the first disk, which stays what it is.
    root = distribution.root_disk(lab.folder / "root.disk")
    second = ("-drive", f"if=virtio,format=raw,file={root}")
    server = lab.add_server(lab.folder / "good.rom", product=BOARD, devices=second)
    lab.manager.know(server)
    bundle = lab.manager.bundle("good", lab.folder / "good.rom", version="1", product=BOARD, preserve=False)
    move_in(lab, server, root)
    manager = serve(lab, lab.manager, [bundle], "--rate", RATE_MBIT, policy=POLICY)
    for rescue in range(RESCUES):
        start_damaged(server)
        lab.wait_for(server, REPAIRED)
        server.power_cut()
        lab.check(f"rescue {rescue + 1} has repaired the programs", programs(server) == whole[PROGRAMS.start : PROGRAMS.stop])
    lab.wait_until(lambda: len(rescued(manager)) == RESCUES, 60, "the results of the rescues")
    stop(lab, manager)

    manager = serve(lab, lab.manager, [bundle], "--rate", RATE_MBIT, policy=POLICY)
    start_damaged(server)
    damaged = programs(server)
    lab.wait_for(server, GIVES_UP)
    lab.check("the hook says that another image does not help, and boots on", True)
    lab.check("the chip is as it was found", programs(server) == damaged)
    (request,) = events(manager, "help-request")
    told = not request["wants_image"] and f"rescued {RESCUES} times in a day" in request["why"]
    lab.check("the manager is told, and asked for no image", told, request)
    (parked,) = events(manager, "parked")
    lab.check("it has parked the host by the host's own count", parked["rescues"] == RESCUES, parked)
    status = lab.finish(lab.manager.start("status", "--json", *lab.manager.credentials()), 30)
    (host,) = status.json()["hosts"]
    lab.check("`firmcast status` shows it", host["parked"] and host["rescues"] == RESCUES, host)
    lab.check("and nothing was sent", not events(manager, "transfer-started"))


def move_in(lab, server, root):
    """From its next start on the server has the distribution's initramfs with the hook, and an OS on its second disk."""
    lab.boot(server)
    server.command(f"""echo 'managers = ["{STORED[0]}"]' >>/etc/firmcast/agent.toml""")
    archive = distribution.rescue_archive(lab, server)
    server.power_cut()
    made = distribution.initramfs(lab, "mkinitramfs", archive, chip_driver="bios_flash")
    words = distribution.OS_WORDS.replace("root=/dev/vda", "root=/dev/vdb")
    server.boot_next(Boot(lab.kernel.image, made, f"{words} {distribution.STAY} firmcast.recover=auto"))


def start_damaged(server):
    """What damages the chip at each start does so while the machine is off."""
    chip = bytearray(server.flash.read_bytes())
    middle = (PROGRAMS.start + PROGRAMS.stop) // 2
    chip[middle : middle + 0x1000] = bytes(0x1000)
    server.flash.write_bytes(chip)
    server.mark()
    server.start()


def programs(server):
    """What the chip holds of them."""
    return server.flash_bytes(PROGRAMS.start, len(PROGRAMS))


def rescued(manager):
    """The rescues that the manager takes for successes."""
    return [event for event in events(manager, "result") if event["reason"] == "rescued"]
