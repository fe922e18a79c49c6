"""Updates that succeed."""

import re

from lab.firmware import OVMF_VARIABLES_BYTES, seabios_version
from lab.network import MANAGER_ADDRESS, MANAGER_INTERFACE
from lab.scenario import group_setup, scenario
from lab.testbed import MANAGER_TIMEOUT_S

LOSS_PERCENT = 5
RATE_MBIT = 20


def code_of(server):
    """The chip without the variables, which the firmware rewrites whenever it boots."""
    return server.flash_bytes(OVMF_VARIABLES_BYTES)


def check_ready(lab, server):
    """The agent itself says that an update could start here."""
    status, output = server.command("firmcastd check")
    lab.check(f"`firmcastd check` on {server.name} finds nothing in the way", status == 0, output)


@group_setup("two-servers")
def two_servers(lab):
    """Two servers of different NIC models with the older OVMF, on a network that loses datagrams."""
    lab.add_server(lab.firmware.ovmf_old)
    lab.add_server(lab.firmware.ovmf_old, nic="e1000e")
    lab.boot(*lab.servers)
    lab.enroll(*lab.servers)
    lab.network.set_loss(LOSS_PERCENT, LOSS_PERCENT)


def update_both(lab, show=False):
    """The campaign of this group, once; later scenarios of the group start from its end."""
    new = lab.firmware.ovmf_new.read_bytes()
    if any(code_of(server) != new[OVMF_VARIABLES_BYTES:] for server in lab.servers):
        bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2", security_version=2)
        for server in lab.servers:
            server.mark()
        options = ["--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT]
        result = lab.update(bundle, *options, show=show)
        lab.check_status("every host is confirmed with the new firmware", result, 0)
        if not show:
            lab.check_ends(result, len(lab.servers), reason="confirmed")


@scenario(group="two-servers", limit_s=600)
def ovmf_to_ovmf_broadcast(lab):
    """Two servers get another OVMF by broadcast at 5 % loss; both boot it and say so"""
    broadcast_update(lab, show=False)


@scenario(group="two-servers", limit_s=600)
def drill_on_two_servers(lab):
    """A drill with escrow on two servers at 5 % loss: kexec, transfer, plan and the way home, and not one byte of code changes"""
    new = lab.firmware.ovmf_new
    holds_new = any(code_of(server) == new.read_bytes()[OVMF_VARIABLES_BYTES:] for server in lab.servers)
    image = lab.firmware.ovmf_old if holds_new else new
    bundle = lab.manager.bundle("drill", image, version="3", security_version=3)
    before = [code_of(server) for server in lab.servers]
    for server in lab.servers:
        server.mark()
    lab.network.set_loss(LOSS_PERCENT, LOSS_PERCENT)
    options = ["--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT, "--escrow"]
    result = lab.finish(lab.manager.start_campaign("drill", bundle, *options), MANAGER_TIMEOUT_S)
    lab.check_status("every host came home from its drill", result, 0)
    lab.check_ends(result, len(lab.servers), reason="drilled", flash="untouched")
    for host, end in result.results().items():
        lab.check(f"{host} tells what would change: {end['detail']}", "eraseblocks would change" in end["detail"])
        found = f"by itself it found the manager at {MANAGER_ADDRESS}"
        lab.check(f"{host} found its manager by itself, too", found in end["detail"], end["detail"])
        stages = {stage["stage"]: stage["seconds"] for stage in end["stages"]}
        lab.check(f"and how long each part took: {stages}", {"entering-recovery", "receiving", "escrow", "rebooting"} <= stages.keys())
    for server, code in zip(lab.servers, before):
        lab.check(f"{server.name} went through the recovery kernel", server.shows(r"Command line:.*\befi=noruntime"))
        lab.check(f"{server.name} booted its normal OS again", server.shows(r"^server: OS is up"))
        lab.check(f"the chip of {server.name} holds the code that it held", code_of(server) == code)
        check_ready(lab, server)
    hosts = lab.finish(lab.manager.start("discover", "--json", "--interface", MANAGER_INTERFACE, *lab.manager.credentials()), 60)
    lab.check("no floor was raised", '"security_version_floor":3' not in hosts.output.replace(" ", ""), hosts.output)


@scenario(limit_s=600, on_demand=True)
def demo(lab):
    """The same as ovmf-to-ovmf-broadcast, with the manager's own display"""
    two_servers(lab)
    broadcast_update(lab, show=True)


def broadcast_update(lab, show):
    """One broadcast campaign for both servers, and what must hold afterwards."""
    old, new = lab.firmware.ovmf_old.read_bytes(), lab.firmware.ovmf_new.read_bytes()
    for server in lab.servers:
        check_ready(lab, server)
        lab.check(f"{server.name} holds the old firmware", code_of(server) == old[OVMF_VARIABLES_BYTES:])
    update_both(lab, show)
    for server in lab.servers:
        lab.check(f"{server.name} went through the recovery kernel", server.shows(r"Command line:.*\befi=noruntime"))
        lab.check(f"{server.name} booted its normal OS again", server.shows(r"^server: OS is up"))
        lab.check(f"the chip of {server.name} holds the new firmware", code_of(server) == new[OVMF_VARIABLES_BYTES:])
        kept = server.flash_bytes(0, OVMF_VARIABLES_BYTES)
        lab.check(f"the variable store of {server.name} is its own", kept != new[:OVMF_VARIABLES_BYTES])
    lost = lab.network.lost_packets()
    lab.check(f"the network lost datagrams meanwhile ({lost})", lost > 0)
    history = lab.finish(lab.manager.start("history", "--json", *lab.manager.credentials()), 30)
    lab.check("the campaign is in the manager's history", "confirmed" in history.stdout, history.output)


@scenario(group="two-servers", limit_s=600)
def older_security_version(lab):
    """After an update, a bundle with a lower security version is refused and nothing happens"""
    update_both(lab)
    lab.network.set_loss()
    bundle = lab.manager.bundle("older", lab.firmware.ovmf_old, version="1", security_version=1)
    refused(lab, bundle, "security-version-too-old")


def refused(lab, bundle, reason):
    """Every host refuses `bundle` for `reason`, keeps its flash, and goes on idling."""
    before = [server.flash_bytes() for server in lab.servers]
    for server in lab.servers:
        server.mark()
    result = lab.update(bundle, "--host", *[server.address for server in lab.servers], timeout_s=120)
    lab.check_status("the manager reports failure", result, 1)
    lab.check_ends(result, len(lab.servers), reason=reason, flash="untouched")
    for server, flash in zip(lab.servers, before):
        lab.check(f"not one byte in the chip of {server.name} changed", server.flash_bytes() == flash)
        lab.check(f"{server.name} did not leave its OS", not server.shows(r"Command line:"))
    lab.enroll(*lab.servers)
    lab.check("the agents still answer", True)


@scenario(limit_s=420)
def ovmf_to_seabios_unicast(lab):
    """One server goes from OVMF to SeaBIOS by unicast, and boots it after a power cycle"""
    image = lab.firmware.seabios.read_bytes()
    version = seabios_version(lab.firmware.seabios)
    server = lab.add_server(lab.firmware.ovmf_old, power_cycle_on_reset=True)
    lab.boot(server)
    lab.enroll(server)
    bundle = lab.manager.bundle(
        "seabios", lab.firmware.seabios, version=version, preserve=False, new_layout=True, expect_version=version
    )
    server.mark()
    result = lab.update(bundle, "--host", server.address, "--unicast", "--rate", RATE_MBIT)
    lab.check_status(f"the host is confirmed to run {version}", result, 0)
    lab.check("the machine was powered off and on", server.starts == 2, f"{server.starts} starts")
    lab.check("its DMI table says SeaBIOS", server.shows(rf"^server: server1, BIOS SeaBIOS {re.escape(version)}$"))
    lab.check("the whole chip holds the image", server.flash_bytes() == image)


@scenario(limit_s=420)
def multicast_group(lab):
    """One server gets another OVMF through a multicast group that only its recovery environment joins"""
    server = lab.add_server(lab.firmware.ovmf_old)
    lab.boot(server)
    lab.enroll(server)
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    server.mark()
    options = ["--group", "239.255.98.47", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT]
    result = lab.update(bundle, "--host", server.address, *options)
    lab.check_status("the host is confirmed with the new firmware", result, 0)
    lab.check("the image travelled by multicast", '"delivery":"multicast"' in result.output.replace(" ", ""))
    new = lab.firmware.ovmf_new.read_bytes()
    lab.check("the chip holds the new firmware", code_of(server) == new[OVMF_VARIABLES_BYTES:])


@scenario(limit_s=420)
def dhcp_in_recovery(lab):
    """A server whose address was leased asks for one in the recovery environment too"""
    log = lab.start_dhcp_server()
    server = lab.add_server(lab.firmware.ovmf_old, address="dhcp")
    lab.boot(server)
    lab.enroll(server)
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    server.mark()
    result = lab.update(bundle, "--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("the host is confirmed with the new firmware", result, 0)
    leases = log.read_text().count("sending ACK")
    lab.check("three leases: normal OS, recovery, normal OS", leases == 3, f"{leases}\n{log.read_text()}")
