"""The agent and the manager as systemd runs them: confined, and as able as when root runs them in a shell."""

import re

from lab import binaries
from lab.paths import PROJECT
from lab.scenario import scenario
from lab.shell import write
from scenarios.updates import RATE_MBIT

# Runs `firmcastd check` with the directives of firmcastd.service.
CHECK_AS_THE_AGENT = r"""#!/bin/sh
unit=/run/systemd/system/check-as-the-agent.service
mkdir -p /run/systemd/system
sed -e '/^Exec/d; /^Restart/d; /^SuccessExit/d; /^Standard/d; /^Requires=/d; /^After=/d' \
	-e 's|^Type=.*|Type=oneshot\nExecStart=/usr/sbin/firmcastd check\nStandardOutput=truncate:/var/lib/firmcast/said|' \
	/etc/systemd/system/firmcastd.service >$unit
systemctl daemon-reload
systemctl start check-as-the-agent.service 2>/dev/null
cat /var/lib/firmcast/said
rm /var/lib/firmcast/said
"""
# What a program may do under the directives of a unit: its status in /proc. AppArmor would not let it start this program.
STATUS_UNDER_THE_UNIT = r"""#!/bin/sh
unit=/run/systemd/system/status-under-the-unit.service
mkdir -p /run/systemd/system
sed -e '/^Exec/d; /^Restart/d; /^SuccessExit/d; /^Standard/d; /^Requires=/d; /^After=/d; /^AppArmorProfile/d; /^LoadCredential/d' \
	-e 's|^Type=.*|Type=oneshot\nExecStart=/bin/cat /proc/self/status\nStandardOutput=truncate:/run/status-under-the-unit|' \
	"/etc/systemd/system/$1" >$unit
systemctl daemon-reload
systemctl start status-under-the-unit.service 2>/dev/null
cat /run/status-under-the-unit
"""
# The units, what systemd may think at most that each could still do (in tenths, as in tests/packages/confinement), and its
# capabilities: linux/capability.h numbers CAP_DAC_OVERRIDE 1, CAP_DAC_READ_SEARCH 2, CAP_SYS_PTRACE 19, CAP_SYS_BOOT 22.
UNITS = (
    ("firmcastd.service", 15, 0),
    ("firmcast-serve.service", 15, 0),
    ("firmcastd-helper@.service", 20, 1 << 1 | 1 << 2 | 1 << 19 | 1 << 22),
)
# Modes and owners, where the services keep and reach what is not for others.
MODES = """\
600 root /dev/mtd0
600 root /run/firmcast/helper
600 root /var/lib/firmcast/host.key
600 root /var/lib/firmcast/host.machine
644 root /var/lib/firmcast/host.pub
700 root /var/lib/firmcast
750 firmcast /var/lib/firmcast-manager
"""
# What the manager's package puts in place, beside the program and the key.
MANAGER_FILES = {
    "etc/systemd/system/firmcast-serve.service": PROJECT / "systemd/firmcast-serve.service",
    "etc/apparmor.d/usr.bin.firmcast": PROJECT / "packaging/apparmor/usr.bin.firmcast",
    "usr/lib/sysusers.d/firmcast-manager.conf": PROJECT / "packaging/sysusers/firmcast-manager.conf",
    "etc/firmcast/policy.toml": PROJECT / "docs/policy.toml",
    "usr/lib/udev/rules.d/70-firmcast.rules": PROJECT / "udev/70-firmcast.rules",
    "etc/firmcast/serve.conf": PROJECT / "packaging/serve.conf",
}
START_TIMEOUT_S = 90
# A program of an ordinary user that holds the chip open for writing.
HOLDER = "setpriv --reuid=65534 --regid=65534 --clear-groups sleep 9999 3<>/dev/mtd0 >/dev/null 2>&1 &"


def without_amounts(checks):
    """What `firmcastd check` says, but for the memory that is free at the moment."""
    return re.sub(r"(memory .*?)\d+ MiB available", r"\1", checks)


def obstacle(lab):
    """Why the one host could not be updated, as its agent tells the manager."""
    (found,) = lab.finish(lab.manager.start_enrolment(), 60).json()
    return found["obstacle"]


def status_of(text):
    """The lines of a /proc/PID/status, by their names."""
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def the_units_hold(lab, server):
    """What systemd makes of the units' directives on this machine: its own score, and what a process may do under them."""
    for unit, tenths, capabilities in UNITS:
        name = unit.replace("@.", "@1.")
        status, output = server.command(f"systemd-analyze security --no-pager --threshold={tenths} {name}")
        lab.check(f"systemd thinks that {unit} is confined", status == 0, "\n".join(output.splitlines()[-3:]))
        told = server.command(f"sh /usr/local/sbin/status-under-the-unit {unit}")[1]
        found = status_of(told)
        sets = {name: int(found.get(f"Cap{name}", "-1"), 16) for name in ("Eff", "Prm", "Bnd", "Amb", "Inh")}
        wanted = {"Eff": capabilities, "Prm": capabilities, "Bnd": capabilities, "Amb": 0, "Inh": 0}
        lab.check(f"{unit} has the capabilities that it names and no others", sets == wanted, told)
        strict = (found.get("NoNewPrivs"), found.get("Seccomp"))
        lab.check(f"{unit} gets no new privileges, and its system calls are filtered", strict == ("1", "2"), told)
    told = server.command("cat /proc/$(systemctl show -P MainPID firmcastd)/status")[1]
    found = status_of(told)
    powers = [found.get(name) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")]
    lab.check("the agent that runs has no capability", {int(power, 16) for power in powers} == {0}, told)


def nobody_else_reads(lab, server):
    """Modes and owners of what the services keep."""
    names = " ".join(line.split()[2] for line in MODES.splitlines())
    status, output = server.command(f"stat -c '%a %U %n' {names}")
    lab.check("files and folders have their modes and owners", output.split() == MODES.split(), output)
    for folder, others in (("firmcast", "077"), ("firmcast-manager", "027")):
        find = f"find /var/lib/{folder} -mindepth 1 -path '*/recovery' -prune -o -type f ! -name '*.pub' -perm /{others} -print"
        status, output = server.command(find)
        lab.check(f"nothing else in /var/lib/{folder} is for others", status == 0 and not output.strip(), output)


def the_manager_serves(lab, server):
    """`firmcast serve` as its package installs it: a user of its own, its key as a credential, confined by AppArmor."""
    server.command("systemd-sysusers; apparmor_parser -r /etc/apparmor.d/usr.bin.firmcast; systemctl start firmcast-serve")
    lab.wait_until(lambda: "waiting for dead hosts" in server.command("journalctl -u firmcast-serve")[1], 60, "firmcast serve")
    status, output = server.command("cat /proc/$(systemctl show -P MainPID firmcast-serve)/attr/current")
    lab.check("AppArmor confines the manager", "firmcast-serve (enforce)" in output, output)
    status, output = server.command("stat -c %U /proc/$(systemctl show -P MainPID firmcast-serve)")
    lab.check("it is not root", output.split() == ["firmcast"], output)
    server.command("systemctl reload firmcast-serve")
    lab.wait_until(lambda: "read again:" in server.command("journalctl -u firmcast-serve")[1], 60, "a reload")
    status, output = server.command("systemctl restart firmcast-serve && sleep 1 && systemctl is-active firmcast-serve")
    lab.check("it reads its settings again, and starts again", status == 0, output)


@scenario(limit_s=900)
def systemd_host(lab):
    """A whole Debian: systemd runs the agent confined, by its unit and by AppArmor, and gives it its socket; it sees what root
    sees, has no more capabilities than the units say, keeps its files for itself, and its services stop in order before the kexec"""
    version = lab.kernel.version
    files = {
        "usr/local/sbin/status-under-the-unit": write(lab.folder / "status-under-the-unit", STATUS_UNDER_THE_UNIT),
        "usr/local/sbin/check-as-the-agent": write(lab.folder / "check-as-the-agent", CHECK_AS_THE_AGENT),
        f"var/lib/firmcast/recovery/{version}.img": binaries.recovery_initramfs(lab.kernel),
        # Where Fedora has it; the agent's unit hides that folder from it.
        f"usr/lib/modules/{version}/vmlinuz": lab.kernel.image,
        **MANAGER_FILES,
        "usr/bin/firmcast": lab.manager.program,
        "etc/firmcast/manager.key": lab.manager.key,
    }
    server = lab.add_server(lab.firmware.ovmf_old, system="debian", files=files)
    lab.boot(server)
    units = "systemctl is-active firmcastd.socket firmcastd.service firmcastd-helper.socket"
    are_active = lambda: server.command(units)[1].split() == ["active"] * 3
    lab.wait_until(are_active, START_TIMEOUT_S, "the sockets and the service")
    status, output = server.command("cat /proc/$(systemctl show -P MainPID firmcastd)/attr/current")
    lab.check("AppArmor confines the agent", "firmcastd (enforce)" in output, output)

    server.command("rm /boot/vmlinuz; sed -i /^recovery_/d /etc/firmcast/agent.toml; systemctl restart firmcastd.service")
    status, by_root = server.command("firmcastd check")
    lab.check("root finds nothing in the way", status == 0 and f"/usr/lib/modules/{version}/vmlinuz" in by_root, by_root)
    status, confined = server.command("sh /usr/local/sbin/check-as-the-agent")
    confined = confined.replace("/run/firmcast-modules", "/usr/lib/modules")
    same = without_amounts(by_root) == without_amounts(confined)
    lab.check("confined, the check says the same word for word", same, f"{by_root}\n{confined}")

    lab.enroll(server)
    lab.check("the agent tells the manager that nothing is in the way", obstacle(lab) is None)
    server.command(HOLDER)
    found = obstacle(lab)
    lab.check("it tells of a program of another user that could write to the chip", found == "flash-busy", found)
    status, by_root = server.command("firmcastd check")
    status, confined = server.command("sh /usr/local/sbin/check-as-the-agent")
    held = [line for said in (by_root, confined) for line in said.splitlines() if "in use by sleep" in line]
    lab.check("so do both checks, with the program", len(held) == 2 and held[0] == held[1], f"{by_root}\n{confined}")
    server.command("pkill sleep")

    server.command("systemctl stop firmcastd.service")
    lab.enroll(server)
    lab.check("with its socket on, a stopped agent is started again by whoever asks", obstacle(lab) is None)
    server.command("systemctl stop firmcastd.socket firmcastd.service")
    status, output = server.command(units)
    lab.check("stopped together, both stay so, and the helper with them", output.split() == ["inactive"] * 3, output)
    server.command("systemctl start firmcastd.socket firmcastd.service")

    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    server.mark()
    result = lab.update(bundle, "--host", server.address, "--unicast", "--rate", RATE_MBIT)
    lab.check_status("the host is confirmed with the new firmware", result, 0)
    lab.check("systemd stopped the services first", server.shows(r"Stopped target .*Multi-User"))
    lab.check("its file systems were unmounted", server.shows(r"Reached target .*Unmount All Filesystems"))
    lab.check("systemd started the recovery kernel", server.shows(r"systemd-shutdown.*Rebooting with kexec"))
    lab.check("the host went through the recovery kernel", server.shows(r"Command line:.*\befi=noruntime"))
    the_manager_serves(lab, server)
    the_units_hold(lab, server)
    nobody_else_reads(lab, server)
    denied = [line for line in server.console().splitlines() if 'apparmor="DENIED"' in line]
    lab.check("AppArmor had nothing to deny", not denied, "\n".join(denied))
    server.command("systemd-run --wait --property=AppArmorProfile=firmcastd /bin/cat /etc/shadow")
    lab.wait_for(server, r'apparmor="DENIED".*profile="firmcastd"')
