"""What wants to interfere with a chip that is flashed, or about to be."""

import json
import time

from lab.network import MANAGER_INTERFACE
from lab.scenario import scenario
from scenarios.failures import OS_IS_UP, RECOVERY_BOOTS, RETURN_TIMEOUT_S, one_enrolled_server
from scenarios.updates import RATE_MBIT, code_of

CHECK = "firmcastd check --json 2>/dev/null"
BMC = ("-device", "ipmi-bmc-sim,id=bmc0", "-device", "isa-ipmi-kcs,bmc=bmc0")
# How long the manager is out of reach: longer than either watchdog's time.
SILENCE_S = 140
# The driver of the BMC's arms it again at the kexec, for 120 s. It has the name /dev/watchdog; the other one is told to
# let nobody stop it, and its hardware keeps to that in the next kernel.
ARM_WATCHDOGS = """
    modprobe -a ipmi_si ipmi_devintf; rmmod i6300esb; modprobe ipmi_watchdog timeout=60 action=reset start_now=1;
    modprobe i6300esb nowayout=1 heartbeat=60;
    (exec 8>/dev/watchdog 9>/dev/watchdog1; while echo 1 >&8 && echo 1 >&9; do sleep 2; done) </dev/null >/dev/null 2>&1 &
    n=0; while [ "$(cat /sys/class/watchdog/watchdog1/state)" != active ] && [ $n -lt 30 ]; do sleep 1; n=$((n+1)); done;
    cat /sys/class/watchdog/watchdog1/nowayout
""".replace("\n", " ")


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


@scenario(limit_s=900)
def watchdogs_outlast_a_slow_update(lab):
    """The BMC's watchdog, armed by the kexec itself, and an i6300esb that nobody can stop: an update that takes longer is confirmed"""
    server, bundle = one_enrolled_server(lab, devices=BMC)
    status, output = server.command(ARM_WATCHDOGS)
    lab.check("both watchdogs run, one of them with nowayout", status == 0 and output.strip().endswith("1"), output)
    status, output = server.command(CHECK)
    found = {check["name"]: check for check in json.loads(output)["checks"]}["watchdogs"]
    detail = found["detail"]
    lab.check(f"the check tells both: {detail}", found["verdict"] == "told" and "watchdog1 (i6300ESB" in detail, found)
    lab.check("the BMC was asked", "the BMC's runs, " in detail and "then reset" in detail, found)
    process = lab.manager.start_update(
        bundle, "--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT, "--reach-timeout", 3 * SILENCE_S
    )
    lab.wait_for(server, RECOVERY_BOOTS, 120)
    lab.network.cut_off_manager()
    kexec = time.monotonic()
    fed = lab.wait_for(server, r"the BMC's watchdog runs, \d+ of (\d+) s left, then reset; it is fed", 60)
    lab.check(f"the kexec has armed the BMC's for {fed.group(1)} s", int(fed.group(1)) < SILENCE_S)
    lab.wait_until(lambda: time.monotonic() - kexec > SILENCE_S, 2 * SILENCE_S, "the watchdogs' times to pass")
    lab.check("nothing has reset the machine", not server.shows(OS_IS_UP))
    lab.network.cut_off_manager(False)
    result = lab.finish(process)
    lab.check_status("the update succeeds", result, 0)
    lab.check_ends(result, 1, reason="confirmed", flash="updated", reboot_safe=True)
    lab.check("the BMC's was stopped before the first erase", server.shows("watchdog stopped: the BMC's"))
    lab.check("the other one did not stop, and was fed", server.shows(r"i6300ESB timer .* cannot be stopped; it is fed"))
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
