"""Computers that come up with dead firmware, and nobody has told them what to do."""

import re
import shutil

from lab import damage
from lab.firmware import CHIP_BYTES, ERASE_BLOCK_BYTES, OVMF_VARIABLES_BYTES
from lab.manager import events
from lab.network import MANAGER_ADDRESS
from lab.scenario import scenario
from lab.testbed import RESCUE_THEN_OFF

STORED = (f"firmcast://{MANAGER_ADDRESS}:9848",)
RATE_MBIT = 20
BOOT_TIMEOUT_S = 180
RESCUE_TIMEOUT_S = 300
RESULT_TIMEOUT_S = 120
SERVE_TIMEOUT_S = 20
# The record of good firmware has digests of pieces this large.
PIECE_BYTES = 64 * 1024
FIRMWARE_STARTED_LINUX = r"efi: EFI v\S+ by EDK II"
CALLING = r"^firmcast: calling "
LOSS_PERCENT = 10
# All hosts call again within this time.
GATHER_S = 15
GATHER_SHORT_S = 3
FLOOR = 5
BELOW_FLOOR = rf"does not help now: .*this host's floor is {FLOOR}"
STATIC_ADDRESS = "10.77.0.77"
STRANGER = "10.77.0.2"
SLOW_RATE_MBIT = 1
PART_BYTES = 300_000
WRITING = r"^firmcast: writing: (25|50) %"
# What a broadcast may cost in all, in images, and what each host's conversation with the manager may.
STREAM_MAX = 1.25
CONVERSATION_BYTES = 48 * 1024


def ends(lab, *hosts, timeout_s=RESCUE_TIMEOUT_S):
    """Waits until the hosts have switched themselves off."""
    for host in hosts:
        lab.wait_until(lambda: host.is_off, timeout_s, f"the end of {host.name}")


def shelf(manager, *bundles):
    """A bundle directory with these files, and no others."""
    folder = manager.folder / "bundles"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for bundle in bundles:
        (folder / bundle.name).hardlink_to(bundle)
    return folder


@scenario(limit_s=300)
def healthy_bank_boots_on(lab):
    """Whole firmware whose variables have changed is found valid: the computer boots on and calls nobody"""
    image = lab.firmware.ovmf_old.read_bytes()
    at = 2 * ERASE_BLOCK_BYTES
    changed = image[:at] + b"\x55" * 64 + image[at + 64 :]
    recorded = lab.add_dead_host(changed, managers=STORED, good=lab.firmware.ovmf_old)
    structure = lab.add_dead_host(changed, managers=STORED)
    for host in lab.servers:
        host.start()
    ends(lab, *lab.servers, timeout_s=BOOT_TIMEOUT_S)
    for host, by in ((recorded, "recorded as good"), (structure, "firmware volumes")):
        lab.check(f"{host.name} is valid by {by}", host.shows(rf"firmware is valid: .*{by}"), host.console()[-2000:])
        lab.check(f"{host.name} boots on", host.shows(r"booting on"))
        lab.check(f"not one byte in the chip of {host.name} changed", host.bank.read_bytes() == changed)
        frames = lab.network.frames_from(host)
        lab.check(f"no frame of {host.name} left it", frames == 0, frames)


@scenario(limit_s=600)
def dead_bank_is_rescued(lab):
    """Five computers with five kinds of damage get one broadcast at 10 % loss; each boots from its repaired bank"""
    old, new = lab.firmware.ovmf_old.read_bytes(), lab.firmware.ovmf_new.read_bytes()
    # What is compressed does not unpack any more; that is told of the whole section, with a record of good firmware or without.
    unpacks, section = r"(?:section|unpacked): ", damage.main_volume(old)
    record = {"good": lab.firmware.ovmf_old}
    static = f"{RESCUE_THEN_OFF} ip={STATIC_ADDRESS}::{MANAGER_ADDRESS}:255.255.255.0::eth0:none"
    kinds = {
        "the main volume's header": (damage.volume_header(old), {}, r"firmware volume: "),
        "compressed data": ((damage.compressed_data(old)[0], section), {}, unpacks),
        "the reset vector's block": (damage.reset_vector(old), {}, r"reset vector: "),
        "all of it erased": (damage.erased(old), {}, r"every byte is 0xff"),
        "half old, half new": ((damage.half_of(old, new)[0], section), {**record, "words": static}, unpacks),
    }
    lab.start_dhcp_server()
    places = {}
    for what, ((contents, at), known, why) in kinds.items():
        places[lab.add_dead_host(contents, managers=STORED, **known)] = (what, at, why)
    # One of them is a UEFI machine, the others start sooner.
    lab.servers[0].insert_flash(lab.firmware.ovmf_new)
    lab.manager.know(*lab.servers)
    lab.network.set_loss(LOSS_PERCENT, LOSS_PERCENT)
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2", security_version=2)
    for host in lab.servers:
        host.start()
    for host in lab.servers:
        lab.wait_for(host, CALLING, BOOT_TIMEOUT_S)
    # Nobody is late then: who joins a stream that is nearly over has it go on for as long again.
    sent_before = lab.network.manager_bytes()
    manager = serve(lab, lab.manager, [bundle], "--rate", RATE_MBIT, policy=f"gather_s = {GATHER_S}")
    ends(lab, *lab.servers)
    sent = lab.network.manager_bytes() - sent_before
    for host, (what, at, why) in places.items():
        found = host.shows(rf"firmware is invalid at 0x([0-9a-f]+): {why}.*")
        lab.check(f"{host.name}, {what}: {found and found.group()}", found, host.console()[-3000:])
        place = int(found.group(1), 16)
        lab.check(f"the damage of {host.name} is there", at // PIECE_BYTES == place // PIECE_BYTES, f"{place:#x}, not {at:#x}")
        lab.check(f"the chip of {host.name} holds the new firmware", host.bank_code() == new[-len(host.bank_code()) :])
    lab.check("the first was started by UEFI firmware", lab.servers[0].shows(FIRMWARE_STARTED_LINUX))
    lab.check("the last has the address of ip=", lab.servers[-1].shows(rf"\[{re.escape(STATIC_ADDRESS)}/24\]"))
    check_rescued(lab, manager, lab.servers)
    campaigns = {event["campaign"] for event in events(manager, "result")}
    lab.check("all of them were in one campaign", len(campaigns) == 1, campaigns)
    limit = int(STREAM_MAX * CHIP_BYTES) + CONVERSATION_BYTES * len(lab.servers)
    lab.check(f"the manager sent {sent} bytes for {len(lab.servers)} hosts, at most {limit}", sent <= limit)
    check_boots(lab, *lab.servers)


def serve(lab, manager, bundles, *options, policy=None):
    """Starts the service of a manager and waits until it listens."""
    process = manager.serve(shelf(manager, *bundles), *options, policy=policy)
    lab.wait_until(lambda: events(process, "serving") or process.poll() is not None, SERVE_TIMEOUT_S, "the service")
    lab.check("the manager's service listens", process.poll() is None, process.error_file.read_text())
    return process


def check_rescued(lab, manager, hosts):
    """What the manager says about these hosts, once for each."""

    def results():
        return {event["host"]: event for event in events(manager, "result")}

    # The last words of a host that switched itself off may have been lost.
    names = {host.name for host in hosts}
    lab.wait_until(lambda: names <= results().keys(), RESULT_TIMEOUT_S, f"the results of {names}")
    results = results()
    for host in hosts:
        end = results.get(host.name, {})
        rescued = end.get("confirmed") and end.get("reason") == "rescued" and end.get("flash") == "updated"
        lab.check(f"{host.name} is rescued, says the manager", rescued, end)


def check_boots(lab, *hosts):
    """QEMU starts with the repaired bank as the first one."""
    for host in hosts:
        host.swap_banks()
        host.mark()
        host.start()
    for host in hosts:
        lab.wait_for(host, FIRMWARE_STARTED_LINUX, BOOT_TIMEOUT_S)
        host.power_cut()
        lab.check(f"{host.name} boots from its repaired bank", True)


@scenario(limit_s=600)
def rescue_survives(lab):
    """A wrong signature, a stranger's manager, an old security version, a manager that dies and a power cut: nothing wrong is
    ever flashed, and the rescue ends well; its bundle is for a part of the chip"""
    old, new = lab.firmware.ovmf_old.read_bytes(), lab.firmware.ovmf_new.read_bytes()
    dead, _ = damage.reset_vector(old)
    lab.start_dhcp_server()
    lab.network.add_address(STRANGER)
    cut = lab.add_dead_host(dead, managers=STORED)
    misled = lab.add_dead_host(dead, managers=[f"firmcast://{STRANGER}:9848", *STORED])
    floor = lab.add_dead_host(dead, managers=STORED, floor=FLOOR)
    lab.manager.know(*lab.servers)
    stranger = lab.manager.stranger(lab.folder / "stranger")
    other = {"version": "9", "preserve": False, "new_layout": True}
    trap = stranger.bundle("trap", lab.firmware.seabios, **other)
    foreign = lab.manager.bundle("foreign", lab.firmware.seabios, key=stranger.release_key, **other)
    rogue = serve(lab, stranger, [trap], "--listen", f"{STRANGER}:9848", policy="unknown_hosts = true")
    # Both are on one machine here.
    listen = ("--listen", f"{MANAGER_ADDRESS}:9848")
    patient = f"gather_s = {GATHER_SHORT_S}\nattempts_max = 100"
    manager = serve(lab, lab.manager, [foreign], *listen, policy=patient)
    for host in lab.servers:
        host.start()

    check_refused(lab, manager, [cut, misled], "manifest-untrusted", dead)
    lab.wait_for(floor, BELOW_FLOOR, RESCUE_TIMEOUT_S)
    lab.check("the stranger's manager was called", misled.shows(rf"calling {re.escape(STRANGER)}:9848"), misled.console()[-3000:])
    lab.check("it has learnt nothing", not events(rogue, "help-request"), events(rogue))

    stop(lab, manager)
    code, place = lab.folder / "code.rom", f"code={OVMF_VARIABLES_BYTES:#x}:{CHIP_BYTES - OVMF_VARIABLES_BYTES:#x}"
    code.write_bytes(new[OVMF_VARIABLES_BYTES:])
    part = {"version": "2", "security_version": 2, "preserve": False, "more": ("--region", place)}
    right = lab.manager.bundle("right", code, **part)
    manager = serve(lab, lab.manager, [right], *listen, "--rate", SLOW_RATE_MBIT, policy=patient)
    lab.wait_until(lambda: events(manager, "transfer-started"), RESCUE_TIMEOUT_S, "the transfer")
    sent_before = lab.network.manager_bytes()
    lab.wait_until(lambda: lab.network.manager_bytes() > sent_before + PART_BYTES, 60, "a part of the transfer")
    manager.kill()
    for host in lab.servers:
        lab.check(f"{host.name} holds what it held when the manager died", host.bank.read_bytes() == dead)

    manager = serve(lab, lab.manager, [right], *listen, "--rate", RATE_MBIT, policy=patient)
    lab.wait_for(cut, WRITING, RESCUE_TIMEOUT_S)
    cut.power_cut()
    held = cut.bank_code()
    lab.check("the power cut left something between the two", held not in (dead[-len(held) :], new[-len(held) :]))
    cut.start()
    ends(lab, cut, misled)
    for host in (cut, misled):
        lab.check(f"{host.name} holds the new firmware", host.bank_code() == new[-len(held) :])
        beside = host.bank.read_bytes()[:OVMF_VARIABLES_BYTES] == dead[:OVMF_VARIABLES_BYTES]
        lab.check("and beside the part what it held", beside)
    lab.check("the host with a higher floor is told so", floor.shows(BELOW_FLOOR))
    lab.check("not one byte in its chip changed", floor.bank.read_bytes() == dead)
    lab.check("the stranger's manager has learnt nothing to the end", not events(rogue, "help-request"), events(rogue))
    check_boots(lab, cut, misled)


def check_refused(lab, manager, hosts, reason, held):
    """These hosts refuse the bundle, say so, and hold what they held."""
    names = {host.name for host in hosts}

    def refusals():
        return {event["host"]: event for event in events(manager, "result") if reason in event["reason"]}

    lab.wait_until(lambda: names <= refusals().keys(), RESCUE_TIMEOUT_S, f"{names} refuse the bundle ({reason})")
    for host in hosts:
        end = refusals()[host.name]
        lab.check(f"{host.name} refuses the bundle: {end['reason']}", not end["confirmed"], end)
        lab.check(f"not one byte in the chip of {host.name} changed", host.bank.read_bytes() == held)


def stop(lab, manager):
    """Ends a service as systemd does."""
    manager.terminate()
    lab.wait_until(lambda: manager.poll() is not None, 30, "the end of the service")
