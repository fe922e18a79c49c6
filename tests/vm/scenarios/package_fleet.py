"""firmcast's fleet on a whole Debian: apt installs it, and systemd runs its worker, its page and its webhooks by their units."""

import base64
import json
import shlex

from lab import installed
from lab.firmware import seabios_version
from lab.scenario import scenario
from scenarios.confinement import status_of
from scenarios.package_rescues import LEFT_OF_MANAGER
from scenarios.packages import ANYTHING_LEFT, AT_HAND, apt, must
from scenarios.updates import RATE_MBIT

SITE = "lab"
UNITS = {"worker": f"firmcast-fleet-work@{SITE}.service", "page": "firmcast-fleet-web.service", "webhooks": "firmcast-fleet-webhooks.service"}
PAGE_PORT = 8420
ROLLOUT = "first"
FILE = f"""\
name = "{ROLLOUT}"
release = "{{release}}"
hosts = "all"

[[wave]]
name = "all"
rest = true
soak = "5 s"

[limits]
in-flight = [{{{{ per = "all", hosts = 1 }}}}]
failures = [{{{{ per = "all", hosts = 1 }}}}]
"""
# An operator who is not root: of the group, and of no other.
OPERATOR = "anna"
ROLLOUT_TIMEOUT_S = 400
# In tenths, as in tests/packages/confinement.
EXPOSURE_MAX = 15
GET = "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET {path} HTTP/1.0\\r\\nHost: 127.0.0.1:{port}\\r\\n\\r\\n' >&3; cat <&3"


@scenario(limit_s=1800, on_demand=True)
def packages_fleet(lab):
    """apt installs the fleet on a Debian: an operator of its group and three services share its store, the worker updates another
    server, the page shows it, and nothing is left when it is purged"""
    desk, host = machines(lab)
    lab.boot(desk, host)
    lab.enroll(host)
    host.mark()
    install(lab, desk)
    create(lab, desk, host)
    start(lab, desk)
    roll_out(lab, desk, host)
    stop(lab, desk)


def machines(lab):
    """One where people and services of the fleet are, with the manager's key and a bundle at hand; one that is updated."""
    bundle = lab.manager.bundle("newer", lab.firmware.seabios_newer, version=version(lab), preserve=False, expect_version=version(lab))
    packages = [installed.built(name) for name in ("firmcast-manager", "firmcast-fleet")]
    desk = installed.add(lab, "mkinitramfs", *packages, lab.manager.key, bundle)
    return desk, lab.add_server(lab.firmware.seabios, power_cycle_on_reset=True)


def version(lab):
    """What the new firmware says of itself."""
    return seabios_version(lab.firmware.seabios_newer)


def install(lab, desk):
    """From apt to a person who may use it."""
    apt(lab, desk, "apt installs the manager and the fleet", f"install {AT_HAND}/firmcast-manager_*.deb {AT_HAND}/firmcast-fleet_*.deb")
    for part, unit in UNITS.items():
        status, said = desk.command(f"systemctl is-active {unit}")
        lab.check(f"the {part} does not run before somebody starts it", status != 0, said)
    must(lab, desk, "the key is put in place", f"install -m 600 {AT_HAND}/manager.key /etc/firmcast/manager.key")
    must(lab, desk, "somebody is of its group", f"useradd -G firmcast-fleet {OPERATOR}")
    must(lab, desk, "the campaigns' rate is set", f"echo 'UPDATE_OPTIONS=--rate {RATE_MBIT}' >>/etc/firmcast-fleet/fleet.conf")


def put(lab, desk, path, text):
    """Writes a file that everybody may read; the shell inside takes one line at a time."""
    must(lab, desk, f"{path} is there", f"echo {base64.b64encode(text.encode()).decode()} | base64 -d >{path} && chmod 644 {path}")


def operator(lab, desk, what, words):
    """What a person of the group types."""
    return must(lab, desk, what, f"runuser -u {OPERATOR} -- firmcast-fleet {words}")


def create(lab, desk, host):
    """Hosts, release and rollout: partly by root, partly by the operator."""
    inventory = (lab.manager.state / "inventory.json").read_text()
    put(lab, desk, "/tmp/inventory.json", inventory)
    must(lab, desk, "root takes over the hosts", "firmcast-fleet hosts import /tmp/inventory.json")
    put(lab, desk, "/tmp/sites.csv", f"name,site\n{host.name},{SITE}\n")
    operator(lab, desk, "the operator takes it over", "hosts import /tmp/sites.csv")
    must(lab, desk, "the bundle is for everybody", f"install -m 644 {AT_HAND}/newer.fcb /tmp/newer.fcb")
    operator(lab, desk, "the operator adds the release", "release add /tmp/newer.fcb")
    put(lab, desk, "/tmp/rollout.toml", FILE.format(release=version(lab)))
    operator(lab, desk, "the operator creates it", "rollout create /tmp/rollout.toml")


def start(lab, desk):
    """systemd runs all three, each as nobody else and confined."""
    must(lab, desk, "systemd starts all three", f"systemctl enable --now {' '.join(UNITS.values())}; sleep 3")
    for part, unit in UNITS.items():
        journal = desk.command(f"journalctl -b -u {unit} --no-pager")[1]
        must(lab, desk, f"the {part} runs", f"systemctl is-active {unit}", timeout_s=20)
        told = must(lab, desk, f"the {part}'s process", f"p=$(systemctl show -P MainPID {unit}); ps -o user:20= -p $p; cat /proc/$p/status")
        found = status_of(told)
        lab.check(f"the {part} is a user of its own", told.split()[0] == "firmcast-fleet", f"{told}\n{journal}")
        powers = {int(found.get(f"Cap{name}", "-1"), 16) for name in ("Eff", "Prm", "Bnd", "Amb", "Inh")}
        strict = (found.get("NoNewPrivs"), found.get("Seccomp"))
        lab.check(f"the {part} has no capability, and its system calls are filtered", powers == {0} and strict == ("1", "2"), told)
        must(lab, desk, f"systemd thinks that the {part} is confined", f"systemd-analyze security --no-pager --threshold={EXPOSURE_MAX} {unit} | tail -n 1")


def roll_out(lab, desk, host):
    """The operator starts it, the worker of the unit updates the host and looks at it after the soak time, the page shows it."""
    operator(lab, desk, "the operator starts the rollout", f"rollout start {ROLLOUT}")

    def is_over():
        shown = json.loads(desk.command(f"runuser -u {OPERATOR} -- firmcast-fleet rollout show {ROLLOUT} --json")[1])
        return shown["rollout"]["state"] not in ("scheduled", "running") and shown

    shown = lab.wait_until(is_over, ROLLOUT_TIMEOUT_S, "the end of the rollout")
    journal = desk.command(f"journalctl -b -u {UNITS['worker']} --no-pager")[1]
    ended = (shown["rollout"]["state"], shown["waves"][0]["attempts"]["confirmed"])
    lab.check("it is finished, and the host confirmed", ended == ("finished", 1), f"{shown}\n{journal}")
    lab.check("the host runs the new firmware", host.shows(rf"^server: {host.name}, BIOS SeaBIOS {version(lab)}$"))
    events = operator(lab, desk, "its events", "events --json")
    looked = [event for event in map(json.loads, events.splitlines()) if event["kind"] == "looked"]
    lab.check("after the soak time it was seen healthy", [event["detail"].split(":")[0] for event in looked] == ["healthy"], events)
    page = must(lab, desk, "the page answers", f"bash -c {shlex.quote(GET.format(port=PAGE_PORT, path=f'/rollout?name={ROLLOUT}'))}")
    lab.check("and says that it is finished", " 200 " in page.splitlines()[0] and "finished" in page, page)
    waiting = desk.command("ss -Hlunp sport = :9848")[1]
    lab.check("the worker waits for dead hosts", "firmcast" in waiting, f"{waiting}\n{journal}")
    # The journal of the whole boot has what the kernel refused.
    denied = [line for line in desk.console().splitlines() if 'apparmor="DENIED"' in line or "type=1326" in line]
    lab.check("nothing was denied to them", not denied, "\n".join(denied))


def stop(lab, desk):
    """Told to stop they end well, at once; purged, only the operator's own things are left."""
    must(lab, desk, "systemd stops all three", f"systemctl stop {' '.join(UNITS.values())}", timeout_s=60)
    for part, unit in UNITS.items():
        said = must(lab, desk, f"how the {part} ended", f"systemctl show -P Result -P ActiveState {unit}")
        lab.check(f"the {part} ended well", sorted(said.split()) == ["inactive", "success"], said)
    apt(lab, desk, "both are purged", "purge firmcast-fleet firmcast-manager")
    said = must(lab, desk, "what is left is looked for", ANYTHING_LEFT)
    lab.check("only the operator's key is left", said.split() == LEFT_OF_MANAGER[:1], said)
