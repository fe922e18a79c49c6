"""The hook in the initramfs that a distribution's own tool makes."""

from lab import damage
from lab.distribution import OS_IS_UP
from lab.scenario import scenario
from scenarios.rescues import BOOT_TIMEOUT_S, RATE_MBIT, STORED, check_rescued, ends, serve

TOOLS = ("mkinitramfs", "dracut")
COURSE = ("firmware is invalid", "firmware is repaired", "Linux version", "firmware is valid", "booting on", OS_IS_UP.strip("^"))


@scenario(limit_s=900, on_demand=True)
def hook_in_distribution_initramfs(lab):
    """In the initramfs of mkinitramfs and of dracut: without its word the hook does nothing; with it dead firmware is
    rescued before the OS comes up, and whole firmware lets the boot go on"""
    old, new = lab.firmware.ovmf_old.read_bytes(), lab.firmware.ovmf_new.read_bytes()
    dead, _ = damage.reset_vector(old)
    lab.start_dhcp_server()
    hosts = {tool: lab.add_dead_host(dead, words="", managers=STORED, distribution=tool) for tool in TOOLS}
    lab.manager.know(*lab.servers)
    for host in lab.servers:
        host.start()
    ends(lab, *lab.servers, timeout_s=BOOT_TIMEOUT_S)
    for tool, host in hosts.items():
        lab.check(f"{tool}, without the word: the OS is up", host.shows(OS_IS_UP), host.console()[-3000:])
        lab.check(f"{tool}: firmcastd has said nothing", "firmcast: " not in host.console())
        lab.check(f"{tool}: the dead chip is as it was", host.bank.read_bytes() == dead)

    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2", security_version=2)
    manager = serve(lab, lab.manager, [bundle], "--rate", RATE_MBIT)
    for host in lab.servers:
        host.boot_with("firmcast.recover=auto")
        host.mark()
        host.start()
    ends(lab, *lab.servers)
    check_rescued(lab, manager, lab.servers)
    for tool, host in hosts.items():
        course = host.shows(r"(?s)" + ".*".join(COURSE))
        lab.check(f"{tool}, with it: found invalid, repaired, reset, valid, and the OS is up", course, host.console()[-3000:])
        lab.check(f"{tool}: the chip holds the new firmware", host.bank_code() == new[-len(host.bank_code()) :])
