"""A rollout over a fleet: waves, limits, workers of two sites, and people who decide."""

import json
import re
import time

from lab.firmware import seabios_version
from lab.fleet import Fleet
from lab.scenario import scenario
from scenarios.updates import RATE_MBIT

OPERATOR, APPROVER = "carl", "anna"
ROLLOUT = "spring"
ROLLOUT_PAGE = f"/rollout?name={ROLLOUT}"
CANARY = "server1"
LAST = "server4"
STRANGER = "server5"
WAVES = {"canary": ["server1"], "one-per-site": ["server2", "server3"], "rest": ["server4"]}
PLACES = """\
name,site,rack,power,canary
server1,north,n1,a,yes
server2,north,n2,b,
server3,south,s1,a,
server4,south,s2,b,
"""
FILE = """\
name = "{name}"
release = "{release}"
hosts = "all"

[[wave]]
name = "canary"
select = "canary=yes"

[[wave]]
name = "one-per-site"
count = 2
soak = "{soak} s"

[[wave]]
name = "rest"
rest = true
approval = "person"

[healthy]
within = "10 min"

[limits]
in-flight = [{{ per = "all", hosts = 2 }}, {{ per = "rack", hosts = 1 }}]
failures = [{{ per = "wave", hosts = 1 }}]
"""
SOAK_S = 20
# Workers look every second for hosts that may begin.
PAUSE_S = 5
# As slow as a chip of SPI NOR: flashing takes long enough for what has to happen meanwhile.
CHIP_RATE_BYTES = 256 * 1024
RECOVERY_BOOTS = r"Command line:.*\befi=noruntime"
WAVE_TIMEOUT_S = 300
# A worker that takes over asks a host that is away every ten seconds.
TAKEOVER_TIMEOUT_S = 300


@scenario(limit_s=1200, on_demand=True)
def rollout_in_three_waves(lab):
    """Three waves over four servers at two sites. The canary's chip is locked: the rollout pauses and says why. Resumed without
    it, the second wave soaks, the third waits for another person's word. A worker is killed while a host flashes: the next one
    confirms that host, and nobody writes twice. Only the planned set is touched"""
    servers = {server.name: server for server in four_servers(lab)}
    fleet = Fleet(lab, OPERATOR)
    planned = create(lab, fleet)
    approver = lab.manager.new_key("manager", fleet.folder / "approver.key")
    start = lambda site, name: fleet.worker(site, name, approver, "--rate", RATE_MBIT)
    workers = {name: start(name.partition("-")[0], name) for name in ("north-1", "south-1", "south-2")}
    fleet.serve_page()
    fleet.says("rollout", "start", ROLLOUT)

    the_canary_pauses_it(lab, fleet, servers[CANARY])
    fleet.says("rollout", "resume", ROLLOUT)
    fleet.picture("resumed", ROLLOUT_PAGE)
    the_second_wave_soaks(lab, fleet)
    the_third_waits_for_another_person(lab, fleet, approver)
    a_worker_dies_while_a_host_flashes(lab, fleet, servers[LAST], workers)
    what_was_touched(lab, fleet, servers, planned)


def four_servers(lab):
    """Servers with SeaBIOS, which starts Linux soonest, enrolled; the chip of one is locked by block protect bits."""
    module = lab.kernel.module("flash_locks")
    for _ in range(4):
        # A reset is a power cycle: see the limits of the lab.
        lab.add_server(lab.firmware.seabios, files={module.name: module}, power_cycle_on_reset=True, chip_rate_bytes=CHIP_RATE_BYTES)
    lab.boot(*lab.servers)
    status, output = lab.servers[0].command(f"insmod /state/{module.name} sectors=16")
    lab.check("the upper half of the canary's chip is locked", status == 0, output)
    lab.enroll(*lab.servers)
    for server in lab.servers:
        server.mark()
    return lab.servers


def create(lab, fleet):
    """From the manager's inventory to a frozen rollout; returns the names of its hosts, wave by wave."""
    version = fleet.knows(PLACES)
    file = fleet.folder / "rollout.toml"
    file.write_text(FILE.format(name=ROLLOUT, release=version, soak=SOAK_S))
    plan = json.loads(fleet.says("rollout", "plan", file, "--json"))
    planned = {wave["name"]: sorted(host["name"] for host in wave["hosts"]) for wave in plan["waves"]}
    lab.check(f"the plan has each server in its wave: {planned}", planned == WAVES)
    fleet.says("rollout", "create", file, "--plan", plan["digest"])
    # Hosts that come later do not belong to it.
    fleet.knows_stranger(STRANGER, "south")
    return planned


def the_canary_pauses_it(lab, fleet, canary):
    """One failure in the first wave: nobody else begins, and the rollout says why."""
    shown = wait_for(lab, fleet, "a pause", lambda shown: shown["rollout"]["state"] == "paused")
    reason = shown["rollout"]["reason"]
    lab.check(f"the limit paused the rollout: {reason}", "1 of 1 hosts failed" in reason, shown)
    told = fleet.says("rollout", "show", ROLLOUT)
    lab.check("the command line says why, and what to type next", reason in told and f"rollout resume {ROLLOUT}" in told, told)
    page = fleet.page(ROLLOUT_PAGE)
    lab.check("the page says why", "paused" in page and reason in page, page)
    fleet.picture("paused", ROLLOUT_PAGE)
    page = fleet.page(f"/host?name={CANARY}")
    lab.check("the canary's page says what is in the way", "the flash chip is write protected" in page, page)
    fleet.picture("canary", f"/host?name={CANARY}")
    (end,) = fleet.events(kind="ended")
    lab.check(f"the host says what is in the way: {end['detail']}", end["host"] == CANARY and "locked" in end["detail"], end)
    begun = time.monotonic()
    lab.wait_until(lambda: time.monotonic() > begun + PAUSE_S, 2 * PAUSE_S, "some turns of the workers")
    lab.check("nobody else has begun", fleet.claimed() == {CANARY}, fleet.claimed())
    lab.check("the canary has not left its OS", canary.starts == 1 and not canary.shows(RECOVERY_BOOTS))


def the_second_wave_soaks(lab, fleet):
    """Both hosts of the second wave are confirmed, and the wave is watched for its time."""
    lab.wait_until(lambda: ("flashing", "north-1") in fleet.stages("server2"), WAVE_TIMEOUT_S, "server2 flashing")
    fleet.picture("running", ROLLOUT_PAGE)
    wait_for(lab, fleet, "the soak of the second wave", lambda shown: state(shown, 1) == "soaking", WAVE_TIMEOUT_S)
    shown = wait_for(lab, fleet, "the end of the second wave", lambda shown: state(shown, 1) == "finished", WAVE_TIMEOUT_S)
    lab.check("both sites' hosts are confirmed", attempts(shown, 1)["confirmed"] == 2, shown)
    by = {event["host"]: event["by"].partition("-")[0] for event in fleet.events(kind="claimed") if event["host"] != CANARY}
    lab.check("each was updated by a worker of its site", by == {"server2": "north", "server3": "south"}, by)
    at = {event["detail"]: event["at"] for event in fleet.events(kind="wave")}
    watched_us = at["one-per-site: finished"] - at["one-per-site: soaking"]
    lab.check(f"the wave was watched for {SOAK_S} s at least", watched_us >= SOAK_S * 1_000_000, watched_us)
    looks = {event["host"]: event for event in fleet.events(kind="looked")}
    late_us = {host: look["at"] - at["one-per-site: soaking"] for host, look in looks.items()}
    lab.check(
        "after that time both were seen healthy, where they are",
        sorted(looks) == WAVES["one-per-site"]
        and all(look["detail"].startswith("healthy") for look in looks.values())
        and min(late_us.values()) >= SOAK_S * 1_000_000,
        looks,
    )


def the_third_waits_for_another_person(lab, fleet, approver):
    """The operator's own word is refused; somebody else's lets it begin."""
    wait_for(lab, fleet, "the third wave's question", lambda shown: state(shown, 2) == "awaits-approval")
    approve = ["rollout", "approve", ROLLOUT, "rest", "--key", approver]
    refused = fleet.refusal(*approve)
    lab.check("the operator's own word is refused", "somebody else has to approve" in refused, refused)
    lab.check("and lets nobody begin", LAST not in fleet.claimed())
    fleet.says(*approve, by=APPROVER)


def a_worker_dies_while_a_host_flashes(lab, fleet, server, workers):
    """The worker that has the host is killed while its chip changes; the other one of its site confirms it."""
    old = server.flash_bytes()
    lab.wait_until(lambda: server.flash_bytes() != old, WAVE_TIMEOUT_S, f"the first write to the chip of {server.name}")
    (claim,) = fleet.events(LAST, "claimed")
    workers[claim["by"]].kill()
    at_the_kill = server.flash_bytes()
    lab.check("the worker was killed while the chip changed", at_the_kill not in (old, lab.firmware.seabios_newer.read_bytes()))
    wait_for(lab, fleet, "the end", lambda shown: shown["rollout"]["state"] == "finished", TAKEOVER_TIMEOUT_S)
    (end,) = fleet.events(LAST, "ended")
    lab.check(f"another worker confirmed the host: {end['detail']}", end["by"] != claim["by"] and end["by"] in workers, end)
    boots = len(re.findall(RECOVERY_BOOTS, server.console_since_mark()))
    lab.check("the host went through recovery once", boots == 1, f"{boots} times")
    told = fleet.stages(LAST)
    lab.check(f"nobody told it to write again: {told}", [stage for stage, _ in told].count("flashing") <= 1 and {by for _, by in told} == {claim["by"]})


def what_was_touched(lab, fleet, servers, planned):
    """The touched set is the planned set; chips hold just what they should."""
    everybody = {host for hosts in planned.values() for host in hosts}
    page = fleet.page(ROLLOUT_PAGE)
    lab.check("the page says that it is finished", "finished" in page, page)
    fleet.picture("finished", ROLLOUT_PAGE)
    lab.check("the touched set is the planned set", fleet.claimed() == everybody, fleet.claimed())
    shown = fleet.rollout(ROLLOUT)
    ends = [(attempts(shown, wave)["confirmed"], attempts(shown, wave)["failed"]) for wave in range(3)]
    lab.check("every host has its end: the canary failed, the others are confirmed", ends == [(0, 1), (2, 0), (1, 0)], shown)
    image = lab.firmware.seabios_newer.read_bytes()
    version = seabios_version(lab.firmware.seabios_newer)
    for name, server in servers.items():
        if name == CANARY:
            lab.check("the canary's chip was not touched", server.flash_bytes() == lab.firmware.seabios.read_bytes())
        else:
            lab.check(f"the chip of {name} holds the image", server.flash_bytes() == image)
            lab.check(f"{name} runs it", server.shows(rf"^server: {name}, BIOS SeaBIOS {version}$"))


def wait_for(lab, fleet, what, holds, timeout_s=WAVE_TIMEOUT_S):
    """Waits until the rollout looks like that; returns how it looks."""

    def found():
        shown = fleet.rollout(ROLLOUT)
        return holds(shown) and shown

    return lab.wait_until(found, timeout_s, what)


def state(shown, wave):
    """The state of a wave."""
    return shown["waves"][wave]["wave"]["state"]


def attempts(shown, wave):
    """How many attempts of a wave are in each state."""
    return shown["waves"][wave]["attempts"]
