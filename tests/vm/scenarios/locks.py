"""Chips whose eraseblocks are locked: the locks come back, or the end says that they do not."""

import re

from lab.network import MANAGER_INTERFACE
from lab.scenario import scenario
from scenarios.sealed_disks import check_of
from scenarios.updates import RATE_MBIT, code_of

LOCKED = "256 of 512 eraseblocks are locked, the first at 0x100000"
LESS = "the chip is less protected than before, not locked: 0x100000-"


@scenario(limit_s=900)
def locks_come_back(lab):
    """The upper half of a chip is locked by block protect bits: refused; accepted, it is unlocked, written and locked again.
    Where it does not lock again, the host is confirmed with that remark"""
    module = lab.kernel.module("flash_locks")
    server = lab.add_server(lab.firmware.ovmf_old, recovery_modules=[module], files={module.name: module})
    lab.boot(server)
    load(lab, server, module, "sectors=16")
    lab.enroll(server)
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    lab.check_ends(lab.update(bundle, "--all"), 1, reason="flash-locked", flash="untouched")
    lab.check("the check says what is locked", check_of(server, "flash-locks") == ("not-ok", LOCKED), check_of(server, "flash-locks"))

    end = update(lab, server, bundle)
    lab.check("the host is confirmed without a remark about locks", "protected" not in str(end), end)
    shown = [int(count) for count in re.findall(r"flash_locks: (\d+) of 32 sectors are locked", server.console_since_mark())]
    lab.check(f"sectors were locked as before, unlocked, and locked as before: {shown}", shown[0] == shown[-1] == 16 > min(shown))
    lab.check("nothing was written to what was locked", not server.shows(r"flash_locks: .* refused"))
    lab.check("the chip holds the new firmware", code_of(server) == lab.firmware.ovmf_new.read_bytes()[-len(code_of(server)) :])
    load(lab, server, module, "keeps_open=1")
    lab.check("in the normal OS it is locked as before", check_of(server, "flash-locks") == ("not-ok", LOCKED), check_of(server, "flash-locks"))

    back = lab.manager.bundle("back", lab.firmware.ovmf_old, version="3")
    end = update(lab, server, back, status=1)
    lab.check("it did not lock again: the host is confirmed with that remark", end["detail"].startswith(LESS), end)
    lab.check("and with what to do", end["advice"].startswith("set the chip's locks by hand"), end)
    load(lab, server, module)
    first = int(end["detail"].rpartition("-")[2], 16) + 1
    found = check_of(server, "flash-locks")
    lab.check(f"and that is true: {found[1]}", found[0] == "ok" or found[1].endswith(f"the first at {first:#x}"), found)


def load(lab, server, module, words=""):
    """Gives the chip its locks, with these parameters."""
    status, output = server.command(f"insmod /state/{module.name} {words}")
    lab.check(f"the chip has locks ({words})", status == 0, output)


def update(lab, server, bundle, status=0):
    """An update for which the locks are accepted: how it ended."""
    server.mark()
    result = lab.update(bundle, "--all", "--accept", "flash-locks", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("accepted, the host is confirmed", result, status)
    lab.check_ends(result, 1, reason="confirmed", flash="updated")
    (end,) = result.results().values()
    return end
