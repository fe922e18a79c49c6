"""How a computer with dead firmware finds its manager when nobody has stored the address on it."""

from lab import damage, packages
from lab.network import MANAGER_ADDRESS
from lab.scenario import scenario
from scenarios.bmc import FRU_BYTES, OEM, OddBmc, OpenIpmiBmc, fru_with, record
from scenarios.rescues import BOOT_TIMEOUT_S, serve

MANAGER = f"firmcast://{MANAGER_ADDRESS}:9848"
DOMAIN = "lab.example"
# A BMC that hangs is given up after this time at the latest.
HANGING_BMC_S = 150
HERE = rf"{MANAGER_ADDRESS}:9848"
# Found is found: what comes then is shown by other scenarios.
HOLD = "[[rule]]\nhold = true\n"


def sources(lab, *settings):
    """The servers of the network, a manager that helps nobody now, and dead firmware."""
    packages.install("dnsmasq-base")
    lab.network.start_dnsmasq(lab.folder, *settings)
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    serve(lab, lab.manager, [bundle], policy=f"unknown_hosts = true\n{HOLD}")
    return damage.erased(lab.firmware.ovmf_old.read_bytes())[0]




def check_found(lab, host, source, timeout_s=BOOT_TIMEOUT_S):
    """The host finds the manager at this source, and the manager answers."""
    lab.wait_for(host, rf"the manager at {HERE} answers", timeout_s)
    found = [line for line in host.console().splitlines() if "manager from " in line and HERE in line]
    lab.check(f"{host.name} found the manager by {source}", len(found) == 1 and f"from {source}:" in found[0], found)
    lab.wait_for(host, r"^firmcast: the manager .* does not help now", 60)
    host.power_cut()


@scenario(limit_s=400)
def manager_is_found(lab):
    """With no address stored the manager is found by DHCP's option alone, by DNS alone, or by calling everybody"""
    mac = "52:54:00:77:00:{:02x}".format
    dead = sources(
        lab, f"dhcp-host={mac(11)},set:option", f"dhcp-option=tag:option,224,{MANAGER}",
        f"dhcp-host={mac(12)},set:domain", f"dhcp-option=tag:domain,option:domain-name,{DOMAIN}",
        f"dhcp-option=tag:domain,option:dns-server,{MANAGER_ADDRESS}",
        f"srv-host=_firmcast._udp.{DOMAIN},manager.{DOMAIN},9848", f"address=/manager.{DOMAIN}/{MANAGER_ADDRESS}",
    )  # fmt: skip
    option, dns, everybody = (lab.add_dead_host(dead) for _ in range(3))
    for host in lab.servers:
        host.start()
    check_found(lab, option, "DHCP")
    check_found(lab, dns, "DNS")
    lab.wait_for(everybody, rf"the manager at {HERE} answers", BOOT_TIMEOUT_S)
    lab.check("the third found it by calling everybody", everybody.shows(r"manager from broadcast: 255\.255\.255\.255:9848"))
    for source in ("stored address", "BMC", "DHCP", "DNS"):
        lab.check(f"after it had asked: {source}", everybody.shows(rf"manager from {source}: "), everybody.console()[-3000:])


@scenario(limit_s=500)
def manager_is_found_by_bmc(lab):
    """The manager is found in the FRU of QEMU's BMC and of OpenIPMI's that ipmitool has written; a BMC that answers errors or
    garbage, or hangs, is passed over"""
    packages.install("openipmi", "ipmitool")
    dead = sources(lab, f"dhcp-option=224,{MANAGER}")
    ours = fru_with(OEM + record(0x03, b"\x01" + MANAGER.encode(), last=True))
    kcs = ("-device", "isa-ipmi-kcs,bmc=bmc0")

    contents = lab.folder / "qemu-fru.bin"
    contents.write_bytes(ours)
    qemu = ("-device", f"ipmi-bmc-sim,id=bmc0,fruareasize={FRU_BYTES},frudatafile={contents}")
    in_qemu = lab.add_dead_host(dead, devices=(*qemu, *kcs))

    written, empty = lab.folder / "written.bin", lab.folder / "fru.bin"
    written.write_bytes(ours)
    empty.write_bytes(fru_with(b""))
    bmc = OpenIpmiBmc(lab, empty, lab.network.inside)
    bmc.ipmitool("fru", "write", "0", written)
    outside = lab.add_dead_host(dead, devices=(*bmc.qemu_arguments(), *kcs))

    odd = {}
    for mood in ("errors", "garbage", "half silent"):
        odd[mood] = lab.add_dead_host(dead, devices=(*OddBmc(lab, mood).qemu_arguments(), *kcs))
    for host in lab.servers:
        host.start()
    check_found(lab, in_qemu, "BMC")
    check_found(lab, outside, "BMC")
    for mood, host in odd.items():
        check_found(lab, host, "DHCP", BOOT_TIMEOUT_S + HANGING_BMC_S)
        said = host.shows(r"manager from BMC: .*|BMC: .*")
        lab.check(f"the BMC that answers with {mood} was passed over: {said and said.group()}", said, host.console()[-3000:])
