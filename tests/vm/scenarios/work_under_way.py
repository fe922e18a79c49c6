"""Work on the host that an update would cut off: seen by root and by the confined agent."""

from lab.scenario import scenario
from scenarios.confinement import obstacle
from scenarios.readiness import checks
from scenarios.updates import RATE_MBIT

# A package that dpkg takes for ever to install.
SLOW_PACKAGE = (
    "mkdir -p /tmp/slow/DEBIAN && cd /tmp/slow && "
    r"printf 'Package: slow\nVersion: 1\nArchitecture: all\nMaintainer: Lab <lab@example.org>\nDescription: slow\n' >DEBIAN/control && "
    r"printf '#!/bin/sh\nexec sleep 9999\n' >DEBIAN/preinst && chmod 755 DEBIAN/preinst && dpkg-deb -b /tmp/slow /tmp/slow.deb && "
    "systemd-run --unit=slow dpkg -i /tmp/slow.deb"
)
INHIBITOR = "systemd-run --unit=backup systemd-inhibit --what=shutdown --mode=block --who=backup --why='tape 7' sleep 9999"
# A program by the name of a virtual machine's, and a control group by the name that systemd-nspawn gives.
WORKLOADS = (
    "cp /bin/sleep /usr/local/bin/qemu-system-x86_64 && systemd-run --unit=guest /usr/local/bin/qemu-system-x86_64 9999 && "
    "(systemd-run --scope --slice=machine --unit=machine-build sleep 9999 >/dev/null 2>&1 &)"
)


@scenario(limit_s=600)
def work_under_way(lab):
    """dpkg in the middle of an installation and a block inhibitor are in the way, by name; a virtual machine's program, a container
    and a scheduled shutdown are told. Accepted by name, the first two are in the way no longer"""
    server = lab.add_server(lab.firmware.ovmf_old, system="debian")
    lab.boot(server)
    lab.enroll(server)
    found = checks(lab, server, 0)
    verdicts = {name: found[name]["verdict"] for name in ("package-manager", "inhibitors", "workloads", "sessions", "scheduled-shutdown")}
    lab.check("on a quiet machine all is clear", set(verdicts.values()) == {"ok"}, found)

    server.command(f"{WORKLOADS}; shutdown -r +60")
    lab.wait_until(lambda: server.command("systemctl is-active machine-build.scope")[0] == 0, 60, "the container's scope")
    found = checks(lab, server, 0)
    workloads, shutdown = found["workloads"], found["scheduled-shutdown"]
    named = workloads["detail"].startswith("2 run: machine build, qemu-system-x86 (process ")
    lab.check(f"what runs here is told: {workloads['detail']}", workloads["verdict"] == "told" and named, workloads)
    told = shutdown["verdict"] == "told" and shutdown["detail"].startswith("reboot at 20")
    lab.check(f"the scheduled shutdown is told: {shutdown['detail']}", told, shutdown)
    lab.check("nothing of that is in the way", obstacle(lab) is None, obstacle(lab))

    server.command(INHIBITOR)
    lab.wait_until(lambda: "tape 7" in server.command("systemd-inhibit --list")[1], 60, "the inhibitor")
    inhibitors = checks(lab, server, 1)["inhibitors"]
    named = inhibitors["detail"].startswith("backup (process ") and inhibitors["detail"].endswith("): tape 7")
    lab.check(f"the inhibitor is named: {inhibitors['detail']}", named and inhibitors["verdict"] == "not-ok", inhibitors)
    lab.check("the confined agent tells discovery", obstacle(lab) == "shutdown-inhibited", obstacle(lab))

    status, output = server.command(SLOW_PACKAGE)
    lab.check("dpkg begins to install", status == 0, output)
    lab.wait_until(lambda: checks(lab, server, 1)["package-manager"]["verdict"] == "not-ok", 60, "dpkg's lock")
    packages = checks(lab, server, 1)["package-manager"]
    named = "/var/lib/dpkg/lock-frontend is locked by dpkg (process " in packages["detail"]
    lab.check(f"dpkg is named: {packages['detail']}", named, packages)
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    options = ["--host", server.address, "--unicast", "--rate", RATE_MBIT]
    lab.check_ends(lab.update(bundle, *options), hosts=1, reason="package-manager-busy", flash="untouched")
    accepted = ["--accept", "package-manager", "--accept", "inhibitors"]
    dry = lab.update(bundle, *options, "--dry-run", *accepted)
    lab.check_status("with both accepted by name an update would be possible", dry, 0)

    server.command("systemctl stop slow backup; shutdown -c")
    found = checks(lab, server, 0)
    gone = {found[name]["verdict"] for name in ("package-manager", "inhibitors", "scheduled-shutdown")}
    lab.check("what has ended is in the way no longer", gone == {"ok"}, found)
    denied = [line for line in server.console().splitlines() if 'apparmor="DENIED"' in line]
    lab.check("AppArmor had nothing to deny", not denied, "\n".join(denied))
