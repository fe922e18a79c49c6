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
"""
# What the manager's package puts in place, beside the program and the key.
MANAGER_FILES = {
    "etc/systemd/system/firmcast-serve.service": PROJECT / "systemd/firmcast-serve.service",
    "etc/apparmor.d/usr.bin.firmcast": PROJECT / "packaging/apparmor/usr.bin.firmcast",
    "usr/lib/sysusers.d/firmcast-manager.conf": PROJECT / "packaging/sysusers/firmcast-manager.conf",
    "etc/firmcast/policy.toml": PROJECT / "docs/policy.toml",
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
    sees, and its services stop in order before the kexec"""
    version = lab.kernel.version
    files = {
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
    denied = [line for line in server.console().splitlines() if 'apparmor="DENIED"' in line]
    lab.check("AppArmor had nothing to deny", not denied, "\n".join(denied))
    server.command("systemd-run --wait --property=AppArmorProfile=firmcastd /bin/cat /etc/shadow")
    lab.wait_for(server, r'apparmor="DENIED".*profile="firmcastd"')
