"""firmcast's other two packages on whole Debians: the manager as a service, and the hook for the distribution's initramfs."""

from lab import damage, installed
from lab.firmware import OVMF_VARIABLES_BYTES
from lab.scenario import scenario
from lab.testbed import OS_IS_UP
from scenarios.packages import ANYTHING_LEFT, AT_HAND, START_TIMEOUT_S, TRUSTED, apt, must, nothing_was_denied, port_is_open
from scenarios.rescues import RESCUE_TIMEOUT_S

SERVICE = "firmcast-serve.service"
STATE = "/var/lib/firmcast-manager"
POLICY = "unknown_hosts = true"
LEFT_OF_MANAGER = ["/etc/firmcast", "/etc/firmcast/manager.key"]
RENEWAL_TIMEOUT_S = 600
COURSE = ("firmware is invalid", "firmware is repaired", "Linux version", "firmware is valid", "booting on", OS_IS_UP.strip("^"))


@scenario(limit_s=1800, on_demand=True)
def packages_rescue_initramfs_tools(lab):
    """apt installs the manager on one Debian and the hook on another: the manager's service rescues the other one, whose own
    initramfs-tools made what it starts"""
    rescue(lab, "mkinitramfs")


@scenario(limit_s=1800, on_demand=True)
def packages_rescue_dracut(lab):
    """The same with an initramfs of dracut"""
    rescue(lab, "dracut")


def rescue(lab, tool):
    """The manager's machine, the broken one, and what becomes of both."""
    manager, broken = machines(lab, tool)
    lab.boot(manager, broken)
    start_manager(lab, manager)
    install_hook(lab, broken)
    whole = break_bank(lab, broken)
    before = must(lab, manager, "the manager's process", f"systemctl show -P MainPID {SERVICE}")
    must(lab, manager, "the manager reads its settings again", f"systemctl reload {SERVICE}")
    after = must(lab, manager, "and still runs", f"sleep 1; systemctl is-active {SERVICE} && systemctl show -P MainPID {SERVICE}")
    lab.check("as the same process", after.split() == ["active", before.strip()], (before, after))

    broken.mark()
    broken.start()
    lab.wait_for(broken, r"(?s)" + ".*".join(COURSE), RESCUE_TIMEOUT_S)
    lab.check("found invalid, repaired, reset, valid, and the OS is up", True)
    lab.check("the chip holds the manager's firmware", code(broken) == whole)
    record_follows(lab, broken)
    said = must(lab, manager, "the journal of the service has the rescue", f"journalctl -b -u {SERVICE} --no-pager")
    lab.check("with its end", "campaign over: 1 host rescued" in said, said)

    must(lab, manager, "the manager is restarted", f"systemctl restart {SERVICE}; sleep 1; systemctl is-active {SERVICE}")
    nothing_was_denied(lab, manager)
    nothing_was_denied(lab, broken)
    end_manager(lab, manager)


def code(server):
    """The second chip without the variables."""
    return server.bank.read_bytes()[OVMF_VARIABLES_BYTES:]


def machines(lab, tool):
    """One for the manager, which has its key and a bundle at hand; one with a second chip, which has the public keys."""
    # Not what the machine has had, under the same name: by the record in its initramfs it is doubtful.
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2", security_version=2)
    manager = installed.add(lab, tool, installed.built("firmcast-manager"), lab.manager.key, bundle)
    keys = [key.with_suffix(".pub") for key in (lab.manager.key, lab.manager.release_key)]
    return manager, installed.add_with_banks(lab, tool, installed.built("firmcast-agent"), installed.built("firmcast-initramfs"), *keys)


def start_manager(lab, server):
    """From apt to a service that answers."""
    apt(lab, server, "apt installs the manager", f"install {AT_HAND}/firmcast-manager_*.deb")
    status, said = server.command(f"systemctl is-active {SERVICE}")
    lab.check("it does not run before it has a key", status != 0, said)
    must(lab, server, "its key is put in place", f"install -m 600 {AT_HAND}/manager.key /etc/firmcast/manager.key")
    must(lab, server, "a bundle and a policy too", f"cp {AT_HAND}/newer.fcb {STATE}/bundles/; echo '{POLICY}' >>/etc/firmcast/policy.toml")
    must(lab, server, "systemd starts it", f"systemctl enable --now {SERVICE} && sleep 2 && systemctl is-active {SERVICE} || journalctl -b -u {SERVICE} --no-pager | grep .; systemctl is-active {SERVICE}")
    said = must(lab, server, "its user", f"p=$(systemctl show -P MainPID {SERVICE}); ps -o user= -p $p; cat /proc/$p/attr/current")
    lab.check("it is a user of its own, confined by AppArmor", said.split() == ["firmcast", "firmcast-serve", "(enforce)"], said)
    lab.check("it listens", server.command("ss -Hlun sport = :9848")[1].strip() != "")


def install_hook(lab, server):
    """The agent and the hook, in a machine whose chip is named by hand because it is the second one."""
    apt(lab, server, "apt installs the agent", f"install {AT_HAND}/firmcast-agent_*.deb")
    manager = f"firmcast://{lab.servers[0].address}:9848"
    settings = f'flash = "physmap-flash"\\nmanagers = ["{manager}"]\\n'
    must(lab, server, "the second chip and the manager are named", f"printf '{settings}' >>/etc/firmcast/agent.toml")
    must(lab, server, "the keys are copied", f"cp {AT_HAND}/*.pub {TRUSTED}/")
    lab.wait_until(lambda: port_is_open(server), START_TIMEOUT_S, "the agent's start")
    said = apt(lab, server, "apt installs the hook", f"install {AT_HAND}/firmcast-initramfs_*.deb")
    lab.check("nothing is missing for it", "firmcast: there is no" not in said and "no identity" not in said, said)
    must(lab, server, "the machine's identity lies in /boot", "test -s /boot/firmcast/rescue.cpio")


def break_bank(lab, server):
    """The machine is switched off in order, and its second chip dies; returns what the manager will put there."""
    switch_off(lab, server)
    server.bank.write_bytes(damage.reset_vector(server.bank.read_bytes())[0])
    installed.boot_own_initramfs(lab, server, "firmcast.recover=auto")
    return lab.firmware.ovmf_new.read_bytes()[OVMF_VARIABLES_BYTES:]


def switch_off(lab, server):
    """The machine is switched off in order."""
    server.command("systemd-run --no-block systemctl poweroff", timeout_s=20)
    lab.wait_until(lambda: not server.running(), 120, "the end of the OS")


def record_follows(lab, server):
    """The initramfs is built again with the record of the new firmware, so the next boot has no doubt either."""
    archive = "/boot/firmcast/rescue.cpio"
    # Both are there from before the rescue; on a slow machine the agent has not even started when its OS is up.
    since_boot = f"[ $(stat -c %Y {archive}) -gt $(($(date +%s) - $(cut -d. -f1 /proc/uptime))) ]"
    renewed = f"{since_boot} && test /boot/initrd.img-{lab.kernel.version} -nt {archive}"
    lab.wait_until(lambda: server.command(renewed)[0] == 0, RENEWAL_TIMEOUT_S, "the initramfs with the new record")
    done = "systemctl show -P ActiveState firmcast-initramfs.service"
    lab.wait_until(lambda: server.command(done)[1].strip() == "inactive", RENEWAL_TIMEOUT_S, "the end of its service")
    switch_off(lab, server)
    installed.boot_own_initramfs(lab, server, "firmcast.recover=auto")
    server.mark()
    server.start()
    lab.wait_for(server, r"(?s)" + ".*".join(COURSE[-3:]), RESCUE_TIMEOUT_S)
    lab.check("the next boot finds the firmware valid by the record in the new initramfs", True)
    lab.check("and takes it for no doubt", not server.shows("firmware is invalid"))


def end_manager(lab, server):
    """The package is purged: the operator's own key stays, and nothing else."""
    apt(lab, server, "the manager is purged", "purge firmcast-manager")
    status, said = server.command("ss -Hlun sport = :9848")
    lab.check("its port is closed", said.strip() == "", said)
    said = must(lab, server, "what is left is looked for", ANYTHING_LEFT)
    lab.check("only the operator's key is left", said.split() == LEFT_OF_MANAGER[:1], said)
    must(lab, server, "the key", f"test -f {LEFT_OF_MANAGER[1]}")
