"""A rollout that a playbook brings about, with the collection of contrib/ansible."""

import json
import os
import re
import subprocess

from lab.ansible import Ansible, inventory_of
from lab.firmware import seabios_version
from lab.fleet import Fleet
from lab.paths import PROJECT
from lab.scenario import scenario
from lab.shell import write
from lab.testbed import PATIENCE
from scenarios.fleet import OPERATOR, RECOVERY_BOOTS
from scenarios.updates import RATE_MBIT

PLAYBOOK = PROJECT / "tests/ansible/until_finished.yml"
ROLLOUT = "winter"
SITE = "riga"
STRANGER = "server3"
PLACES = f"""\
name,site,rack,role
server1,{SITE},r1,db
server2,{SITE},r2,web
"""
GROUPS = {
    "site_riga": ["server1", "server2"], "site_oslo": [STRANGER],
    "rack_r1": ["server1"], "rack_r2": ["server2"], "role_db": ["server1"], "role_web": ["server2"],
}  # fmt: skip
FILE = f"""\
name = "{ROLLOUT}"
release = "{{release}}"
hosts = "site={SITE}"

[[wave]]
name = "all"
rest = true
soak = "5 s"

[limits]
in-flight = [{{{{ per = "rack", hosts = 1 }}}}]
failures = [{{{{ per = "all", hosts = 1 }}}}]
"""
WRONG_LINE = 'line 11: limits: in-flight 1: per: "wrack" is unknown'
# Turns of two seconds that the playbook waits for the end of the rollout.
TURNS = int(150 * PATIENCE)
PLAY_TIMEOUT_S = 400
LOOK_TIMEOUT_S = 60


@scenario(limit_s=900, on_demand=True)
def rollout_by_ansible(lab):
    """Ansible lists two servers in groups of their labels. A wrong rollout file fails its play with line and reason, --check shows
    the plan, and neither creates anything. The same play then updates both and waits for the end; once more it changes nothing"""
    servers = two_servers(lab)
    fleet = Fleet(lab, OPERATOR)
    version = fleet.knows(PLACES)
    fleet.knows_stranger(STRANGER, "oslo")
    approver = lab.manager.new_key("manager", fleet.folder / "approver.key")
    fleet.worker(SITE, "riga-1", approver, "--rate", RATE_MBIT)
    desk = Desk(lab, fleet, version)

    the_inventory_has_groups(lab, desk, servers)
    a_wrong_file_fails(lab, fleet, desk)
    planned = check_mode_shows_the_plan(lab, fleet, desk)
    untouched(lab, fleet, servers)
    the_play_goes_to_the_end(lab, fleet, desk, servers, planned)
    the_second_play_changes_nothing(lab, fleet, desk, servers)


def two_servers(lab):
    """Servers with SeaBIOS, which starts Linux soonest, enrolled."""
    for _ in range(2):
        # A reset is a power cycle: see the limits of the lab.
        lab.add_server(lab.firmware.seabios, power_cycle_on_reset=True)
    lab.boot(*lab.servers)
    lab.enroll(*lab.servers)
    for server in lab.servers:
        server.mark()
    return lab.servers


class Desk:
    """Where the operator's Ansible runs, in the lab's network; what each run said is in `ansible/run-N`."""

    def __init__(self, lab, fleet, version):
        self._lab = lab
        self._folder = lab.folder / "ansible"
        self._ansible = Ansible(self._folder)
        self._runs = 0
        self._variables = {"program": str(fleet.program), "state_directory": str(fleet.folder / "state"), "turns": TURNS, "version": version}
        settings = f"plugin: firmcast.fleet.hosts\nprogram: {fleet.program}\nstate_directory: {fleet.folder}/state\n"
        self._inventory = write(self._folder / "fleet.firmcast.yml", settings)
        self._right = write(self._folder / "winter.toml", FILE.format(release=version))
        self._wrong = write(self._folder / "wrong.toml", FILE.format(release=version).replace('per = "rack"', 'per = "wrack"'))

    def inventory(self):
        """What Ansible knows of the machines."""
        status, listed, errors = self._run("ansible-inventory", LOOK_TIMEOUT_S, "--list")
        self._lab.check("ansible-inventory lists the machines", status == 0, errors)
        return inventory_of(listed)

    def play(self, *options, wrong=False, timeout_s=PLAY_TIMEOUT_S):
        """Plays the playbook, on request with the file that is wrong; returns its status and what it said."""
        variables = {**self._variables, "file": str(self._wrong if wrong else self._right)}
        status, said, errors = self._run("ansible-playbook", timeout_s, PLAYBOOK, "-e", json.dumps(variables), *options)
        return status, said + errors

    def _run(self, tool, timeout_s, *words):
        self._runs += 1
        output = self._folder / f"run-{self._runs}.out"
        errors = output.with_suffix(".err")
        command = ["setpriv", "--pdeathsig", "KILL", self._ansible.tool(tool), "-i", self._inventory, *words]
        environment = {**os.environ, **self._ansible.environment, "SUDO_USER": OPERATOR}
        with open(output, "w") as out, open(errors, "w") as err:
            command = self._lab.network.inside(*command)
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
        # Machines that reset are switched on again only while the lab waits.
        self._lab.wait_until(lambda: process.poll() is not None, timeout_s, f"the end of {tool}, see {output}")
        return process.returncode, output.read_text(), errors.read_text()


def counts(said):
    """What Ansible counted for each host."""
    lines = re.findall(r"^(\S+) +: (ok=.*)$", said.partition("PLAY RECAP")[2], re.MULTILINE)
    return {host: {word: int(count) for word, count in re.findall(r"(\w+)=(\d+)", line)} for host, line in lines}


def the_inventory_has_groups(lab, desk, servers):
    """Each label is a group, and each machine has its address."""
    listed = desk.inventory()
    groups = {name: sorted(group["hosts"]) for name, group in listed.items() if "hosts" in group}
    lab.check("labels make groups", groups == GROUPS, groups)
    found = {name: listed["_meta"]["hostvars"][name]["ansible_host"] for name in ("server1", "server2")}
    lab.check("the machines have their addresses", found == {server.name: server.address for server in servers}, found)


def a_wrong_file_fails(lab, fleet, desk):
    """The operator is told where the mistake is."""
    status, said = desk.play(wrong=True)
    failed = counts(said).get("localhost", {}).get("failed")
    lab.check("a play with a wrong file fails", status != 0 and failed == 1, said)
    lab.check("with line and reason", WRONG_LINE in said.replace('\\"', '"'), said)
    lab.check("nothing was created", fleet.says("rollout", "list", "--json") == "")


def check_mode_shows_the_plan(lab, fleet, desk):
    """What would be done is told and not done; returns the digest of the plan."""
    status, said = desk.play("--check", "--diff", "-v")
    done = counts(said).get("localhost", {})
    lab.check("--check says that something would change", status == 0 and done.get("changed") == 1 and not done.get("failed"), said)
    shown = [line[1:] for line in said.splitlines() if line.startswith("+")]
    told = {name for name in ("server1", "server2", STRANGER) if any(name in line.split() for line in shown)}
    lab.check("--diff shows the plan for both", told == {"server1", "server2"} and "state: scheduled" in shown, said)
    lab.check("nothing is created", fleet.says("rollout", "list", "--json") == "")
    planned = re.search(r'"plan": "([0-9a-f]{64})"', said)
    lab.check("the plan's digest is told", planned, said)
    return planned[1]


def untouched(lab, fleet, servers):
    """Nobody has begun with a machine."""
    lab.check("no host was begun with", fleet.claimed() == set(), fleet.claimed())
    old = lab.firmware.seabios.read_bytes()
    away = [server.name for server in servers if server.flash_bytes() != old or server.starts > 1 or server.shows(RECOVERY_BOOTS)]
    lab.check("both servers are in their OS, their chips as they were", not away, away)


def the_play_goes_to_the_end(lab, fleet, desk, servers, planned):
    """Just what was shown is done, and the play ends when the machines run the new firmware."""
    status, said = desk.play()
    done = counts(said)
    changed = {host: count["changed"] for host, count in done.items()}
    lab.check("the play ends well, with one change", status == 0 and changed == {"localhost": 1, "server1": 0, "server2": 0}, said)
    lab.check("the inventory has the new version of both", done["server1"]["ok"] == done["server2"]["ok"] == 1, said)
    shown = fleet.rollout(ROLLOUT)
    rollout = shown["rollout"]
    lab.check("the store says that the rollout is finished", rollout["state"] == "finished", shown)
    lab.check("both hosts are confirmed", shown["waves"][0]["attempts"]["confirmed"] == 2, shown)
    lab.check("it was the plan that --check showed", rollout["plan_digest"] == planned, rollout)
    lab.check("by the operator", rollout["created_by"] == OPERATOR, rollout)
    lab.check("the planned hosts were touched, and no other one", fleet.claimed() == {"server1", "server2"}, fleet.claimed())
    image = lab.firmware.seabios_newer.read_bytes()
    version = seabios_version(lab.firmware.seabios_newer)
    for server in servers:
        lab.check(f"the chip of {server.name} holds the image", server.flash_bytes() == image)
        lab.check(f"{server.name} runs it", server.shows(rf"^server: {server.name}, BIOS SeaBIOS {version}$"))


def the_second_play_changes_nothing(lab, fleet, desk, servers):
    """The store and the machines are as they were."""
    before, starts = fleet.events(), [server.starts for server in servers]
    status, said = desk.play(timeout_s=LOOK_TIMEOUT_S)
    done = counts(said)
    lab.check("the same play again changes nothing", status == 0 and done and not any(count["changed"] for count in done.values()), said)
    lab.check("and nothing has happened", fleet.events() == before, fleet.events())
    lab.check("no server was started again", [server.starts for server in servers] == starts)
