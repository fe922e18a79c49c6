"""Dead hosts of a fleet: the workers of their site answer them."""

import json

from lab import damage
from lab.firmware import CHIP_BYTES
from lab.fleet import Fleet
from lab.scenario import scenario
from scenarios.rescues import BOOT_TIMEOUT_S, CALLING, RATE_MBIT, RESCUE_TIMEOUT_S, STORED, check_boots, ends

OPERATOR = "carl"
HELD = "server3"
# server1 ran the older one, and server2 the newer; what server3 gets, an operator decides.
PLACES = """\
name,version,site,rescue
server1,1,north,
server2,2,north,
server3,1,north,no
"""
PUT_OFF = r"does not help now"


@scenario(limit_s=600)
def workers_answer_dead_hosts(lab):
    """Three hosts of a fleet come up with dead firmware. A worker of their site gives one the older release, which it ran, and
    the other the newer, and leaves the third alone, as its label says. The page and the command line say who calls, the store
    knows what each host holds then, and both boot from it. The worker brought the bundles by itself"""
    old, new = lab.firmware.ovmf_old.read_bytes(), lab.firmware.ovmf_new.read_bytes()
    lab.start_dhcp_server()
    # One knows its manager, the others call everybody.
    hosts = [lab.add_dead_host(damage.reset_vector(image)[0], managers=known) for image, known in ((old, STORED), (new, ()), (old, ()))]
    lab.manager.know(*hosts)
    fleet = Fleet(lab, OPERATOR)
    fleet.says("hosts", "import", lab.manager.state / "inventory.json")
    fleet.import_table(PLACES)
    for name, image, version in (("older", lab.firmware.ovmf_old, 1), ("newer", lab.firmware.ovmf_new, 2)):
        bundle = lab.manager.bundle(name, image, version=str(version), security_version=1)
        fleet.says("--shelf", fleet.folder / "elsewhere", "release", "add", bundle)
    approver = lab.manager.new_key("manager", fleet.folder / "approver.key")
    fleet.worker("north", "north-1", approver, "--rate", RATE_MBIT)
    fleet.serve_page()
    for host in hosts:
        host.start()
    for host in hosts:
        lab.wait_for(host, CALLING, BOOT_TIMEOUT_S)

    lab.wait_until(lambda: {call["host"] for call in calls(fleet)} >= {HELD}, RESCUE_TIMEOUT_S, "the call of the third")
    page = fleet.page("/calls")
    lab.check("the page says who calls, and what to do", HELD in page and "label rescue says so" in page, page)
    ends(lab, *hosts[:2])
    for host, image, version in zip(hosts, (old, new), "12"):
        code = host.bank_code()
        lab.check(f"the chip of {host.name} holds version {version}", code == image[CHIP_BYTES - len(code) :])
        told = lab.wait_until(lambda host=host: fleet.events(host.name, "rescued"), RESCUE_TIMEOUT_S, f"the news of {host.name}")
        lab.check(f"the store knows it: {told[0]['detail']}", told[0]["detail"] == f"repaired itself with {version}", told)
    known = {host["name"]: host["bios_version"] for host in map(json.loads, fleet.says("hosts", "list", "--json").splitlines())}
    lab.check("and what each host holds", known == {"server1": "1", "server2": "2", HELD: "1"}, known)
    (call,) = lab.wait_until(lambda: len(found := calls(fleet)) == 1 and found, RESCUE_TIMEOUT_S, "one call")
    lab.check("only the third still calls", (call["host"], call["held"], call["stage"]) == (HELD, "held", "waiting"), call)
    held = hosts[2]
    lab.check("it is told that it is put off", held.shows(PUT_OFF), held.console()[-2000:])
    lab.check("its chip is as it was", held.bank_code() == damage.reset_vector(old)[0][CHIP_BYTES - len(held.bank_code()) :])
    held.power_cut()
    check_boots(lab, *hosts[:2])


def calls(fleet):
    """Who calls for help."""
    return [json.loads(line) for line in fleet.says("calls", "--json").splitlines()]
