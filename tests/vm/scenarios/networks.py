"""Updates over networks that are more than one NIC with an IPv4 address."""

from dataclasses import replace

from lab import switch
from lab.network import MANAGER_INTERFACE
from lab.scenario import scenario
from lab.server import VENDOR
from lab.shell import write
from scenarios.updates import code_of

RATE_MBIT = 20
# What the light OS does in place of its own network: the first NIC, on the manager's bridge, has no address and is no way.
FIND = """\
nic() { for d in /sys/class/net/*/; do [ "$(cat "$d/address")" = "$1" ] && basename "$d"; done; }
sed -i 's/0.0.0.0:/[::]:/' /etc/firmcast/agent.toml
ip link set "$(nic {first})" up
"""
# Two cables into one port that opens for LACP alone.
LACP_BOND = """\
modprobe bonding mode=802.3ad miimon=100 lacp_rate=fast xmit_hash_policy=layer3+4
ip link set bond0 up
for mac in {one} {two}; do echo "+$(nic $mac)" >/sys/class/net/bond0/bonding/slaves; done
ip addr add 10.77.0.51/24 broadcast + dev bond0
"""
# IPv6 alone, with a tag, over two cables of which one is in use; larger packets than the other side's.
VLAN_ON_BOND = """\
modprobe 8021q
modprobe bonding mode=active-backup miimon=100
ip link set bond0 up
for mac in {one} {two}; do echo "+$(nic $mac)" >/sys/class/net/bond0/bonding/slaves; done
ip link set bond0 mtu 9000
ip link add link bond0 name storage type vlan id 7
ip link set storage mtu 9000 up
ip addr add fd77::52/64 dev storage
"""
# No address but the one that the kernel makes of the Ethernet address.
LINK_LOCAL = """\
ip link set "$(nic {one})" up
"""


def mac_of(server, nic):
    """The Ethernet address of a further NIC."""
    return f"52:54:00:77:{server:02x}:{nic:02x}"


def add(lab, number, script, cables=(), **machine):
    """A server with these cables into the switch, whose OS sets its network up by `script`."""
    devices = []
    for nic, ends in enumerate(cables, 1):
        devices += switch.cable_to_nic(nic, ends, mac_of(number, nic), "e1000e")
    first = f"52:54:00:77:00:{10 + number:02x}"
    words = {"{first}": first, "{one}": mac_of(number, 1), "{two}": mac_of(number, 2)}
    text = FIND + script
    for word, value in words.items():
        text = text.replace(word, value)
    file = write(lab.folder / f"network{number}.sh", text)
    return lab.add_server(
        lab.firmware.ovmf_old, files={"etc/network.sh": file}, devices=(*machine.pop("devices", ()), *devices), **machine
    )


def wire(lab):
    """The three hosts, and the manager with an address in each network; returns (hosts, the switch's log)."""
    network = lab.network
    lacp, tagged = [(7101, 7201), (7102, 7202)], [(7103, 7203), (7104, 7204)]
    ports = [
        {"name": "lacp", "vlan": 1, "tagged": False, "lacp": True, "cables": lacp},
        {"name": "tagged", "vlan": 7, "tagged": True, "lacp": False, "cables": tagged},
    ]
    log = switch.start(network, lab.folder, {"1": "fabric1", "7": "fabric7"}, ports)
    network.run("ip", "link", "set", "fabric1", "master", "bridge0", "up")
    for interface in (MANAGER_INTERFACE, "fabric7"):
        network.run("sysctl", "-q", "-w", f"net.ipv6.conf.{interface}.disable_ipv6=0")
    network.run("ip", "link", "set", "fabric7", "up")
    network.run("ip", "addr", "add", "fd77::1/64", "dev", "fabric7", "nodad")
    second = network.add_tap()
    direct = (
        "-netdev", f"tap,id=direct,ifname={second},script=no,downscript=no",
        "-device", f"virtio-net-pci,netdev=direct,mac={mac_of(3, 1)},romfile=",
    )  # fmt: skip
    hosts = {
        "10.77.0.51": add(lab, 1, LACP_BOND, lacp),
        "fd77::52": add(lab, 2, VLAN_ON_BOND, tagged),
        f"fe80::5054:ff:fe77:301%{MANAGER_INTERFACE}": add(lab, 3, LINK_LOCAL, devices=direct, nic="rtl8139"),
    }
    # Two drivers know that NIC.
    third = list(hosts.values())[2]
    third.boot_next(replace(third._boot, command_line=third._boot.command_line + " modprobe.blacklist=8139too"))
    return hosts, log


@scenario(limit_s=900)
def bond_vlan_and_ipv6(lab):
    """Recovery makes an LACP bond, a VLAN on a bond, IPv6 alone and link-local addresses again, and finds the right one of several NICs"""
    hosts, log = wire(lab)
    lab.boot(*lab.servers)
    for address in hosts:
        found = lab.wait_until(lambda: seen(lab, address), 90, f"an agent at {address} that answers")
        lab.check(f"the host at {address} finds nothing in the way of its network", "network-" not in found, found)
    joined = log.read_text().count("speaks LACP")
    for server in lab.servers:
        server.mark()
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    # A campaign is of one family.
    both = [(9848, list(hosts)[:1]), (9849, list(hosts)[1:])]
    campaigns = []
    for port, some in both:
        words = ["--host", *some, "--unicast", "--rate", RATE_MBIT, "--port", port]
        campaigns.append((some, lab.manager.start_update(bundle, *words)))
    for some, campaign in campaigns:
        result = lab.finish(campaign, 600)
        lab.check_status(f"hosts at {', '.join(some)} are confirmed with the new firmware", result, 0)
        lab.check_ends(result, len(some), reason="confirmed")
    new = lab.firmware.ovmf_new.read_bytes()
    for server in lab.servers:
        lab.check(f"the chip of {server.name} holds the new firmware", code_of(server) == new[len(new) - len(code_of(server)) :])
    bonded, tagged, local = lab.servers
    lab.check("recovery joined both cables to the LACP bond", bonded.shows(r"network: lag0 has 10\.77\.0\.51/24"))
    again = log.read_text().count("speaks LACP") - joined
    lab.check("the switch had shut both cables until LACP was spoken in recovery and after it", again == 4, log.read_text())
    lab.check("recovery made the VLAN on its bond", tagged.shows(r"network: vlan7 has fd77::52/64"))
    lab.check("recovery kept the address of the link", local.shows(r"network: \S+ has fe80::5054:ff:fe77:301/64"))
    recovery = local.shows(r"Command line:.*\befi=noruntime.*modprobe\.blacklist=8139too[\s\S]*8139cp: 10/100 PCI")
    lab.check("what is not to be loaded is not loaded in recovery either", recovery and not local.shows(r"8139too: 8139too"))


def seen(lab, address):
    """What a host at this address says of itself, once it answers, and makes it known."""
    words = ["discover", "--host", address, "--enroll", "--json", *lab.manager.credentials()]
    found = lab.finish(lab.manager.start(*words), 60)
    return found.stdout if found.status == 0 and VENDOR in found.stdout else None
