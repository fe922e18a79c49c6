"""firmcast's packages on a whole Debian: installed by apt while it runs, used, upgraded, removed. `make packages` comes first."""

import os
import re
import signal
import time

from lab import installed
from lab.firmware import OVMF_VARIABLES_BYTES
from lab.scenario import scenario
from lab.testbed import OS_IS_UP
from scenarios.updates import RATE_MBIT, check_ready, code_of

PORT = 9847
INSTALL_TIMEOUT_S = 900
START_TIMEOUT_S = 90
APT = "DEBIAN_FRONTEND=noninteractive eatmydata apt-get -y -q -o APT::Sandbox::User=root -o APT::Install-Recommends=false"
AT_HAND = f"/{installed.AT_HAND}"
IMAGES = "/var/lib/firmcast/recovery"
TRUSTED = "/etc/firmcast/trusted.d"
ANYTHING_LEFT = "find /etc /usr /lib /var /boot /run -xdev -iname '*firmcast*' ! -path '/var/log/*' ! -path '/var/cache/apt/*'"


@scenario(limit_s=2400, on_demand=True)
def packages_initramfs_tools(lab):
    """On a Debian with initramfs-tools, apt installs the agent, two keys make it ready, and kernels come and go"""
    course(lab, "mkinitramfs")


@scenario(limit_s=2400, on_demand=True)
def packages_dracut(lab):
    """The same on a Debian with dracut"""
    course(lab, "dracut")


def course(lab, tool):
    """One machine from the installation of the package to its end."""
    other = installed.other_kernel()
    agent = installed.built("firmcast-agent")
    newer = installed.higher(agent, lab.folder, another_program)
    keys = [key.with_suffix(".pub") for key in (lab.manager.key, lab.manager.release_key)]
    server = installed.add(lab, tool, agent, newer, installed.kernel_package(other), *keys)
    lab.boot(server)
    install(lab, server, agent)
    trust(lab, server)
    lab.enroll(server)
    update(lab, server, lab.firmware.ovmf_new, "2", lab.kernel)
    another_kernel(lab, server, other)
    upgrade_while_a_campaign_waits(lab, server, other, newer)
    other_kernel_goes(lab, server, other)
    nothing_was_denied(lab, server)
    remove(lab, server)


def must(lab, server, what, command, timeout_s=120):
    """Runs a command that has to succeed, and returns what it said."""
    status, said = server.command(command, timeout_s=timeout_s)
    lab.check(what, status == 0, f"{status}\n{said[-4000:]}")
    return said


def apt(lab, server, what, command):
    """Has apt do something inside the machine."""
    began = time.monotonic()
    status, said = server.command(f"{APT} {command}", timeout_s=INSTALL_TIMEOUT_S)
    lab.check(f"{what} ({time.monotonic() - began:.0f} s)", status == 0, f"{status}\n{said[-4000:]}")
    return said


def port_is_open(server):
    """Whether somebody listens on the agent's port."""
    return server.command(f"ss -Hlun sport = :{PORT}")[1].strip() != ""


def images(server):
    """The kernels that have a recovery image."""
    found = server.command(f"ls {IMAGES}")[1].split()
    return sorted(name.removesuffix(".img") for name in found if name.endswith(".img"))


def install(lab, server, agent):
    """apt installs the agent; nobody is trusted yet."""
    said = apt(lab, server, "apt installs the agent", f"install {AT_HAND}/{agent.name}")
    lab.check("the running kernel has a recovery image", images(server) == [lab.kernel.version], said)
    lab.check("no port is open", not port_is_open(server))
    status, said = server.command("systemctl is-active firmcastd.path")
    lab.check("the path unit watches", status == 0, said)
    status, said = server.command("firmcastd check")
    lab.check("check says that nobody is trusted", status != 0 and TRUSTED in said, said)


def trust(lab, server):
    """Two keys are copied; the rest comes by itself."""
    must(lab, server, "two keys are copied", f"cp {AT_HAND}/*.pub {TRUSTED}/")
    lab.wait_until(lambda: port_is_open(server), START_TIMEOUT_S, "the agent's start by the path unit")
    must(lab, server, "the agent was started by the path unit", "systemctl is-active firmcastd.service")
    check_ready(lab, server)
    said = must(lab, server, "AppArmor knows the agent", "cat /proc/$(pidof firmcastd)/attr/current")
    lab.check("its profile is enforced", said.strip() == "firmcastd (enforce)", said)


def update(lab, server, image, version, kernel, meanwhile=None):
    """The machine's real flash gets another firmware by way of the recovery image for `kernel`; `meanwhile` runs while the
    manager waits."""
    bundle = lab.manager.bundle(f"version-{version}", image, version=version)
    server.mark()
    process = lab.manager.start_update(bundle, "--host", server.address, "--unicast", "--rate", RATE_MBIT)
    if meanwhile:
        lab.wait_until(lambda: '"event":"started"' in process.output_file.read_text(), START_TIMEOUT_S, "the campaign's start")
        os.kill(process.pid, signal.SIGSTOP)
        lab.check("the host was not told to leave its OS yet", "entering-recovery" not in process.output_file.read_text())
        try:
            meanwhile()
        finally:
            os.kill(process.pid, signal.SIGCONT)
    result = lab.finish(process)
    lab.check_status(f"the host is confirmed to run version {version}", result, 0)
    lab.check_ends(result, 1, reason="confirmed", flash="updated")
    lab.check(f"it went through recovery with Linux {kernel.version}", server.shows(recovery_with(kernel)), server.console()[-3000:])
    lab.check("its chip holds that firmware", code_of(server) == image.read_bytes()[OVMF_VARIABLES_BYTES:])
    lab.wait_for(server, OS_IS_UP)
    check_ready(lab, server)


def recovery_with(kernel):
    """What the console shows when recovery starts with that kernel."""
    return rf"Linux version {re.escape(kernel.version)} [^\n]*\n[^\n]*Command line:[^\n]*\befi=noruntime"


def another_kernel(lab, server, other):
    """A kernel is installed whose image cannot be made, and then one whose image can; no reboot so far."""
    package = f"{AT_HAND}/linux-image-{other.version}.deb"
    full = f"mount -t tmpfs -o size=8m,mode=700 full /mnt && cp -a {IMAGES}/. /mnt && mount --bind /mnt {IMAGES}"
    must(lab, server, "the disk of the recovery images is full", full)
    reason = "MiB free, a build needs"
    said = apt(lab, server, "apt installs another kernel all the same", f"install {package}")
    lab.check("it says why there is no recovery image", reason in said, said)
    status, said = server.command("firmcastd check")
    lab.check("check shows the reason", reason in said, said)
    lab.check("the image that was there is whole, so an update could start", status == 0, said)
    said = must(lab, server, "the journal has a line", "journalctl -b -t firmcast-mkrecovery --no-pager")
    lab.check("with the reason", f"no recovery image for kernel {other.version}: {IMAGES} has" in said, said)
    found = lab.enroll(server)
    lab.check("and so does discovery", any(reason in host["obstacle_detail"] for host in found), found)
    must(lab, server, "the disk has room again", f"umount {IMAGES} /mnt")
    apt(lab, server, "that kernel is removed", f"purge linux-image-{other.version}")
    said = apt(lab, server, "apt installs it again", f"install {package}")
    lab.check("its recovery image is there before any reboot", other.version in images(server), said)
    status, said = server.command("firmcastd check")
    lab.check("check names the new image", status == 0 and f"{IMAGES}/{other.version}.img" in said, said)


def another_program(tree):
    """Another firmcastd: it does the same, but its bytes are others."""
    with open(tree / "usr/sbin/firmcastd", "ab") as program:
        program.write(b"another")


def program_of_agent(server):
    """The digest of the program that runs as the agent; empty while none runs."""
    status, said = server.command("sha256sum </proc/$(pidof firmcastd)/exe")
    return said if status == 0 else ""


def upgrade_while_a_campaign_waits(lab, server, other, newer):
    """The package is upgraded between the start of a campaign and its instruction to this host."""
    before = program_of_agent(server)

    def meanwhile():
        # A manager that stands still for as long as two images take would give up. They are made when the triggers run.
        upgrade = f"eatmydata dpkg --no-triggers -i {AT_HAND}/{newer.name} 2>&1"
        must(lab, server, "the agent is upgraded while a campaign waits", upgrade, INSTALL_TIMEOUT_S)
        lab.wait_until(lambda: program_of_agent(server) not in ("", before), START_TIMEOUT_S, "the new program")

    update(lab, server, lab.firmware.ovmf_old, "3", other, meanwhile)
    lab.check("the new program runs, with the images of the one before", program_of_agent(server) not in ("", before))
    said = must(lab, server, "the package's triggers run", "dpkg --configure -a 2>&1", INSTALL_TIMEOUT_S)
    lab.check("both images are made anew for it", said.count(": made, ") == 2, said)


def other_kernel_goes(lab, server, other):
    """The second kernel is removed."""
    apt(lab, server, "the other kernel is removed", f"purge linux-image-{other.version}")
    lab.check("its image is gone", images(server) == [lab.kernel.version], images(server))
    check_ready(lab, server)


def nothing_was_denied(lab, server):
    """AppArmor had nothing to deny to firmcast, in this boot and in those before."""
    lab.check("AppArmor denied nothing", not re.search(r'apparmor="DENIED".*firmcast', server.console()))
    said = server.command("dmesg | grep DENIED | grep firmcast")[1]
    lab.check("nor since the last start", said == "", said)


def remove(lab, server):
    """The package is removed, and then purged."""
    apt(lab, server, "the agent is removed", "remove firmcast-agent")
    status, said = server.command("systemctl is-active firmcastd.service firmcastd.path firmcastd.socket")
    lab.check("its units are gone", "active" not in said.split(), said)
    lab.check("its port is closed", not port_is_open(server))
    must(lab, server, "its key and whom it trusted are kept", f"ls /var/lib/firmcast/host.key {TRUSTED}/manager.pub")
    apt(lab, server, "the agent is purged", "purge firmcast-agent")
    said = must(lab, server, "what is left is looked for", ANYTHING_LEFT)
    lab.check("nothing of it is left", said.strip() == "", said)
