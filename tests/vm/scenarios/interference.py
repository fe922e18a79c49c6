"""What wants to interfere with a chip that is flashed, or about to be."""

import json

from lab.network import MANAGER_INTERFACE
from lab.scenario import scenario
from scenarios.failures import OS_IS_UP, RETURN_TIMEOUT_S, one_enrolled_server
from scenarios.updates import RATE_MBIT, code_of

CHECK = "firmcastd check --json 2>/dev/null"


@scenario(limit_s=900)
def interference_while_flashing(lab):
    """Ctrl-alt-del, SIGTERM and Alt+SysRq+B do nothing while the chip is written; the update ends well"""
    server, bundle = one_enrolled_server(lab, recovery_modules=[lab.kernel.module("flash_bother")])
    before = code_of(server)
    result = lab.update(bundle, "--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("the update succeeds", result, 0)
    lab.check_ends(result, 1, reason="confirmed", flash="updated", reboot_safe=True)
    lab.check("the chip holds other firmware than before", code_of(server) != before)
    lab.check("the watchdog was stopped first", server.shows(r"(?s)watchdog stopped.*flash_bother: ctrl-alt-del"))
    for signal in ("SIGINT", "SIGTERM", "SIGPWR"):
        lab.check(f"{signal} was held off, and that was said", server.shows(rf"{signal} of process \d+ is held off"))
    lab.check("Alt+SysRq+B was pressed", server.shows(r"flash_bother: Alt\+SysRq\+H, Alt\+SysRq\+B"))
    helps = server.console_since_mark().count("sysrq: HELP")
    lab.check("the SysRq keys worked before the flashing, and not during it", helps == 1, helps)
    lab.check("EFI runtime services were found to be off", not server.shows("might be interrupted"))
    lab.wait_for(server, OS_IS_UP, RETURN_TIMEOUT_S)


@scenario(limit_s=600)
def a_chip_in_use_is_refused(lab):
    """A program that has the chip open for writing: the check names it and an update is refused"""
    server, bundle = one_enrolled_server(lab)
    before = server.flash_bytes()
    status, output = server.command(CHECK)
    lab.check("the check finds nothing in the way", status == 0, output)
    names = {check["name"]: check for check in json.loads(output)["checks"]}
    for name in ("flash", "flash-protection", "flash-users", "flash-locks", "flash-reads", "power"):
        lab.check(f"{name}: {names[name]['detail']}", names[name]["verdict"] == "ok", names[name])

    server.command("sleep 1000 3<>/dev/mtd0 & echo $! >/tmp/writer")
    status, output = server.command(CHECK)
    users = {check["name"]: check for check in json.loads(output)["checks"]}["flash-users"]
    lab.check(f"the check says: {users['detail']}", users["reason"] == "flash-busy" and "sleep (process" in users["detail"], users)
    result = lab.update(bundle, "--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_ends(result, 1, reason="flash-busy", flash="untouched")
    lab.check("the chip did not change", server.flash_bytes() == before)

    server.command("kill $(cat /tmp/writer); sleep 1")
    status, output = server.command(CHECK)
    lab.check("without that program nothing is in the way again", status == 0, output)
