"""Updates that go wrong on the way: the host must come back by itself, with its firmware whole, and say why."""

from lab.network import MANAGER_INTERFACE
from lab.scenario import scenario
from scenarios.updates import RATE_MBIT, code_of

SLOW_RATE_MBIT = 1
TRANSFER_TIMEOUT_S = 30
REACH_TIMEOUT_S = 60
RETURN_TIMEOUT_S = 600
RECOVERY_BOOTS = r"Command line:.*\befi=noruntime"
OS_IS_UP = r"^server: OS is up"


def one_enrolled_server(lab, **options):
    """A server that is ready for an update to the newer OVMF; returns it and the bundle."""
    server = lab.add_server(lab.firmware.ovmf_old, **options)
    lab.boot(server)
    lab.enroll(server)
    server.mark()
    return server, lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")


def check_returned(lab, server, before, why):
    """The server is back in its normal OS with the old firmware, and its agent tells why."""
    lab.wait_for(server, OS_IS_UP, RETURN_TIMEOUT_S)
    lab.check("the host is back in its normal OS by itself", True)
    told = lab.wait_for(server, rf"(?s){OS_IS_UP}.*?({why})", 60)
    lab.check(f"its agent tells why: {told.group(1)}", True)
    lab.check("the chip holds the old firmware, byte for byte", code_of(server) == before)


@scenario(limit_s=900)
def manager_killed_during_transfer(lab):
    """The manager dies in the middle of the transfer: the host goes back to its normal OS and tells why"""
    server, bundle = one_enrolled_server(lab)
    before = code_of(server)
    process = lab.manager.start_update(
        bundle, "--all", "--interface", MANAGER_INTERFACE, "--rate", SLOW_RATE_MBIT,
        "--transfer-timeout", TRANSFER_TIMEOUT_S, "--reach-timeout", REACH_TIMEOUT_S,
    )  # fmt: skip
    lab.wait_until(lambda: '"transfer-started"' in process.output_file.read_text(), 240, "the start of the transfer")
    sent_before = lab.network.manager_bytes()
    lab.wait_until(lambda: lab.network.manager_bytes() > sent_before + 100_000, 60, "100 kB of the transfer")
    lab.check("the transfer had begun and was not over", process.poll() is None)
    process.kill()
    check_returned(lab, server, before, "the transfer did not complete in time")


@scenario(limit_s=900)
def manager_gone_after_kexec(lab):
    """The manager is not there any more after the kexec: the host goes back to its normal OS and tells why"""
    server, bundle = one_enrolled_server(lab)
    before = code_of(server)
    process = lab.manager.start_update(bundle, "--all", "--interface", MANAGER_INTERFACE, "--reach-timeout", REACH_TIMEOUT_S)
    lab.wait_for(server, RECOVERY_BOOTS, 120)
    process.kill()
    lab.network.cut_off_manager()
    check_returned(lab, server, before, "the manager was not reached")
    lab.network.cut_off_manager(False)
    lab.enroll(server)
    lab.check("the agent answers the manager again", True)


@scenario(limit_s=600)
def flash_write_fails_half_way(lab):
    """The chip refuses writes in the middle of the update: the old firmware is restored and the host says so"""
    fault = lab.kernel.module("flash_fault")
    server, bundle = one_enrolled_server(lab, recovery_modules=[fault])
    before = code_of(server)
    result = lab.update(bundle, "--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("the manager reports failure", result, 1)
    lab.check_ends(result, 1, reason="write-failed", flash="restored", reboot_safe=True)
    lab.check("the kernel did fail writes", server.shows(r"flash_fault: write of .* fails half-way"))
    lab.check("the chip holds the old firmware, byte for byte", code_of(server) == before)
    lab.wait_for(server, OS_IS_UP, RETURN_TIMEOUT_S)
    lab.check("the host is back in its normal OS", True)
