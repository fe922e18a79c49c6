"""Work on the host that an update would cut off, seen by root and by the confined agent; the administrator's programs."""

from lab import packages
from lab.scenario import scenario
from lab.shell import run
from scenarios.readiness import checks, summary_of
from scenarios.updates import RATE_MBIT

# Logins that logind hears of.
MORE_OF_DEBIAN = (("libpam-systemd",), ())
# QEMU as Debian has it, without the libraries that every Debian has.
QEMU = "/usr/bin/qemu-system-x86_64"
MORE_OF_QEMU = ("/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so", "/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/kvmvapic.bin")
IN_EVERY_DEBIAN = ("libc.so", "libm.so", "ld-linux")
GUEST = (
    "systemd-run --unit=guest --setenv=LD_LIBRARY_PATH=/opt/qemu --setenv=QEMU_MODULE_DIR=/opt/qemu /opt/qemu/qemu-system-x86_64 "
    "-L /opt/qemu -machine pc -accel tcg -m 16 -nodefaults -display none"
)
# A control group by the name that systemd-nspawn gives.
CONTAINER = "(systemd-run --scope --slice=machine --unit=machine-build sleep 9999 >/dev/null 2>&1 &)"
LOGIN = "systemd-run --unit=somebody sh -c 'sleep 9999 | script -qec \"login -f root\" /dev/null'"
# A package that dpkg takes for ever to install.
SLOW_PACKAGE = (
    "mkdir -p /tmp/slow/DEBIAN && cd /tmp/slow && "
    r"printf 'Package: slow\nVersion: 1\nArchitecture: all\nMaintainer: Lab <lab@example.org>\nDescription: slow\n' >DEBIAN/control && "
    r"printf '#!/bin/sh\nexec sleep 9999\n' >DEBIAN/preinst && chmod 755 DEBIAN/preinst && dpkg-deb -b /tmp/slow /tmp/slow.deb && "
    "systemd-run --unit=slow dpkg -i /tmp/slow.deb"
)
INHIBITOR = "systemd-run --unit=backup systemd-inhibit --what=shutdown --mode=block --who=backup --why='tape 7' sleep 9999"
WORK = ("package-manager", "inhibitors", "workloads", "sessions", "scheduled-shutdown")
# Programs of the administrator. Each says what it was told; the first also stops the guest, which needs systemd.
HOOK = (
    r"mkdir -p /etc/firmcast/{0}.d && printf '#!/bin/sh\necho {1} $FIRMCAST_HOST $FIRMCAST_VERSION $FIRMCAST_RESULT >>/var/log/hooks\n"
    r"{2}\n' >/etc/firmcast/{0}.d/{1} && chmod 755 /etc/firmcast/{0}.d/{1}"
)
DRAIN = ("pre-update", "drain")
UNDRAIN = ("post-update", "undrain")


def obstacle(lab):
    """Why the one host could not be updated, as its agent tells the manager; it is asked again while it is slow."""
    (found,) = lab.enroll(lab.servers[0])
    return found["obstacle"]


def qemu_files(lab):
    """QEMU for the server's disk."""
    packages.install("qemu-system-x86", "seabios")
    wanted = [QEMU, *MORE_OF_QEMU]
    for line in run("ldd", QEMU).splitlines():
        if "=> /" in line and not any(name in line for name in IN_EVERY_DEBIAN):
            wanted.append(line.split()[2])
    return {f"opt/qemu/{file.rsplit('/', 1)[1]}": file for file in wanted}


def put(lab, server, place, text):
    """Makes a program of the administrator."""
    status, output = server.command(HOOK.format(*place, text))
    lab.check(f"{place[1]} is there", status == 0, output)


def what_runs_is_told(lab, server):
    """A virtual machine, a container, a login and a scheduled shutdown are told, and are not in the way."""
    found = checks(lab, server, 0)
    quiet = {found[name]["verdict"] for name in WORK}
    lab.check("on a quiet machine all is clear", quiet == {"ok"}, {name: found[name] for name in WORK})
    status, output = server.command(f"{GUEST} && {LOGIN} && shutdown -r +60; {CONTAINER}")
    lab.check("work begins", status == 0, output)
    is_there = lambda: server.command("systemctl is-active guest machine-build.scope")[1].split() == ["active"] * 2
    lab.wait_until(is_there, 60, "the guest and the container")
    lab.wait_until(lambda: "root" in server.command("loginctl --no-legend list-sessions")[1], 60, "the login")
    found = checks(lab, server, 0)
    for name, begins in (
        ("workloads", "2 run: machine build, qemu-system-x86 (process "),
        ("sessions", "root"),
        ("scheduled-shutdown", "reboot at 20"),
    ):
        told = found[name]
        lab.check(f"{name} are told: {told['detail']}", told["verdict"] == "told" and told["detail"].startswith(begins), told)
    lab.check("nothing of that is in the way", obstacle(lab) is None, obstacle(lab))
    counted = {finding["check"] for finding in summary_of(lab)["findings"]}
    lab.check("discovery counts it", {"workloads", "sessions", "scheduled-shutdown"} <= counted, counted)


def what_must_not_be_cut_off_is_refused(lab, server, bundle, options):
    """A block inhibitor and dpkg in the middle of an installation are in the way, until they are accepted by name."""
    server.command(INHIBITOR)
    lab.wait_until(lambda: "tape 7" in server.command("systemd-inhibit --list")[1], 60, "the inhibitor")
    inhibitors = checks(lab, server, 1)["inhibitors"]
    named = inhibitors["detail"].startswith("backup (process ") and inhibitors["detail"].endswith("): tape 7")
    lab.check(f"the inhibitor is named: {inhibitors['detail']}", named and inhibitors["verdict"] == "not-ok", inhibitors)
    lab.check("the confined agent tells discovery", obstacle(lab) == "shutdown-inhibited", obstacle(lab))
    status, output = server.command(SLOW_PACKAGE)
    lab.check("dpkg begins to install", status == 0, output)
    lab.wait_until(lambda: checks(lab, server, 1)["package-manager"]["verdict"] == "not-ok", 60, "dpkg's lock")
    packages_busy = checks(lab, server, 1)["package-manager"]
    named = "/var/lib/dpkg/lock-frontend is locked by dpkg (process " in packages_busy["detail"]
    lab.check(f"dpkg is named: {packages_busy['detail']}", named, packages_busy)
    for more in ((), ("--dry-run",)):
        lab.check_ends(lab.update(bundle, *options, *more), hosts=1, reason="package-manager-busy", flash="untouched")
    one = lab.update(bundle, *options, "--dry-run", "--accept", "package-manager")
    lab.check_ends(one, hosts=1, reason="shutdown-inhibited", flash="untouched")
    both = lab.update(bundle, *options, "--dry-run", "--accept", "package-manager", "--accept", "inhibitors")
    lab.check_ends(both, hosts=1, reason="possible", flash="untouched")
    server.command("systemctl stop slow backup somebody; shutdown -c")
    found = checks(lab, server, 0)
    gone = {found[name]["verdict"] for name in WORK if name != "workloads"}
    lab.check("what has ended is in the way no longer", gone == {"ok"}, found)


def the_administrators_programs(lab, server, bundle, options):
    """One that fails refuses the update and is undone; one that passes lets it go on; after the boot it is undone."""
    name = server.name
    put(lab, server, DRAIN, "systemctl stop guest; systemctl is-active guest; exit 3")
    put(lab, server, UNDRAIN, "ip link show >/dev/null && echo undone")
    hooks = checks(lab, server, 0)["hooks"]
    lab.check("the check counts them", hooks["detail"] == "1 before an update, 1 after it", hooks)
    dry = lab.update(bundle, *options, "--dry-run")
    lab.check_ends(dry, hosts=1, reason="possible", flash="untouched")
    log = lambda: server.command("cat /var/log/hooks 2>/dev/null")[1].splitlines()
    lab.check("a dry run runs none", log() == [], log())
    said = "pre-update.d/drain ended with status 3: inactive; post-update.d: undrain 0"
    lab.check_ends(lab.update(bundle, *options), hosts=1, reason="hook-failed", flash="untouched", detail=said)
    refused = [f"drain {name} 2 none", f"undrain {name} 2 hook-failed"]
    lab.check("both have run, with what they need to know", log() == refused, log())
    lab.check("drain has stopped the guest", server.command("systemctl is-active guest")[0] != 0)
    put(lab, server, DRAIN, "kill -TERM $$")
    said = "pre-update.d/drain ended with status 143: Terminated; post-update.d: undrain 0"
    lab.check_ends(lab.update(bundle, *options), hosts=1, reason="hook-failed", flash="untouched", detail=said)
    lab.check("nothing was started", server.starts == 1 and not server.shows(r"efi=noruntime"))

    server.command("chmod o+w /etc/firmcast/pre-update.d/drain")
    hooks = checks(lab, server, 1)["hooks"]
    lab.check("what others may change is refused", hooks["reason"] == "hook-failed", hooks)
    lab.check("by the confined agent, too", obstacle(lab) == "hook-failed", obstacle(lab))
    server.command("rm /etc/firmcast/pre-update.d/drain /var/log/hooks")
    put(lab, server, DRAIN, "sleep 5")
    result = lab.update(bundle, *options)
    lab.check_ends(result, hosts=1, reason="confirmed", detail="", programs="pre-update.d: drain 0; post-update.d: undrain 0")
    done = [line.rsplit(" ", 1)[0] for line in log()]
    lab.check("both have run, the second after the boot", done == [f"drain {name} 2", f"undrain {name} 2"], log())
    lab.check("the second was told that an update had been", not log()[1].endswith((" none", " hook-failed")), log())
    history = lab.finish(lab.manager.start("history", "--json", *lab.manager.credentials()), 60).json()
    ends = [host["result"] for entry in history if entry["kind"] == "update" for host in entry["hosts"]]
    kept = [(end["reason"], end.get("programs")) for end in ends[-2:]]
    lab.check("the history has their statuses", kept[-1] == ("confirmed", "pre-update.d: drain 0; post-update.d: undrain 0"), kept)


@scenario(limit_s=1200)
def work_under_way(lab):
    """dpkg in the middle of an installation and a block inhibitor are in the way, by name; a virtual machine, a container, a login
    and a scheduled shutdown are told. Accepted by name, the first two are in the way no longer. The administrator's
    programs run before and after: one that fails refuses the update"""
    server = lab.add_server(lab.firmware.ovmf_old, system="debian", files=qemu_files(lab), more_of_debian=MORE_OF_DEBIAN)
    lab.boot(server)
    lab.wait_until(lambda: server.command("systemctl is-active multi-user.target")[0] == 0, 300, "the whole system")
    lab.enroll(server)
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    options = ["--host", server.address, "--unicast", "--rate", RATE_MBIT]
    what_runs_is_told(lab, server)
    what_must_not_be_cut_off_is_refused(lab, server, bundle, options)
    the_administrators_programs(lab, server, bundle, options)
    denied = [line for line in server.console().splitlines() if 'apparmor="DENIED"' in line]
    lab.check("AppArmor had nothing to deny", not denied, "\n".join(denied))
