"""Disks that the TPM unlocks for the present firmware only."""

import json

from lab import tpm
from lab.scenario import scenario
from scenarios.confinement import obstacle
from scenarios.updates import RATE_MBIT, code_of

DISK = "/dev/vdb"
SEALED = f"{DISK}: clevis tpm2, PCR 0 (slot 1)"
SETTINGS = '{"pcr_bank":"sha256","pcr_ids":"0"}'
OPENS = f"clevis luks pass -d {DISK} -s 1 >/dev/null"
BIND = f"printf {tpm.PASSPHRASE} >/run/key && clevis luks bind -f -k /run/key -d {DISK} tpm2 '{SETTINGS}' && {OPENS}"
BIND_AGAIN = f"printf {tpm.PASSPHRASE} | clevis luks regen -q -d {DISK} -s 1 && {OPENS}"


def check_of(server, name):
    """What `firmcastd check` says of `name`, as root sees it."""
    checks = json.loads(server.command("firmcastd check --json")[1])["checks"]
    (found,) = [check for check in checks if check["name"] == name]
    return found["verdict"], found["detail"]


def check_of_disks(server):
    """What `firmcastd check` says of sealed disks."""
    return check_of(server, "sealed-disks")


def the_tpm_keeps_the_floor(lab, server):
    """After an update to security version 2 the disk is wiped, as a new installation would do it."""
    lab.check("the floor is in the TPM, too", check_of(server, "security-version") == ("ok", "2, as the TPM says"))
    server.command("systemctl stop firmcastd.socket firmcastd; rm /var/lib/firmcast/security-version-floor; systemctl start firmcastd")
    found = check_of(server, "security-version")
    lab.check("a wiped disk does not lower it", found == ("ok", "2: state_dir says 0, the TPM 2"), found)
    bundle = lab.manager.bundle("older", lab.firmware.ovmf_old, version="1", security_version=1)
    refused = lab.update(bundle, "--host", server.address, "--accept", "sealed-disks")
    lab.check_ends(refused, hosts=1, reason="security-version-too-old", flash="untouched")


@scenario(limit_s=900)
def sealed_disk(lab):
    """A disk that clevis has bound to PCR 0 is found by the confined agent, and an update is refused. Accepted, the update goes
    on; the TPM does not open the disk any more, and host and manager say that it is to be bound again. The TPM keeps the
    floor of security versions when the disk is wiped"""
    devices = (*tpm.start(lab), *tpm.encrypted_disk(lab.folder / "sealed.disk"))
    server = lab.add_server(lab.firmware.ovmf_old, system="debian", more_of_debian=tpm.IN_DEBIAN, devices=devices)
    lab.boot(server)
    lab.enroll(server)
    lab.check("a disk without a binding is fine", check_of_disks(server)[0] == "ok", check_of_disks(server))
    status, output = server.command(BIND)
    lab.check("clevis binds the disk to PCR 0, and opens it with the TPM", status == 0, output)
    lab.check("`firmcastd check` names it", check_of_disks(server) == ("not-ok", SEALED), check_of_disks(server))
    lab.check("the confined agent tells discovery", obstacle(lab) == "disks-sealed", obstacle(lab))

    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2", security_version=2)
    options = ["--host", server.address, "--rate", RATE_MBIT]
    before = server.flash_bytes()
    refused = lab.update(bundle, *options)
    lab.check_ends(refused, hosts=1, reason="disks-sealed", flash="untouched", detail=SEALED)
    lab.check("the chip did not change", server.flash_bytes() == before)

    accepted = lab.update(bundle, *options, "--accept", "sealed-disks")
    lab.check_status("accepted, the host is confirmed", accepted, 0)
    lab.check_ends(accepted, hosts=1, reason="confirmed")
    (end,) = accepted.results().values()
    lab.check("the manager says what is left to do", end["advice"].startswith("bind its disks"), end)
    lab.check("the chip holds the new firmware", code_of(server) == lab.firmware.ovmf_new.read_bytes()[-len(code_of(server)):])
    journal = server.command("journalctl -b -u firmcastd --no-pager -o cat")[1]
    lab.check("so does the host's journal", "bind these disks" in journal and SEALED in journal, journal)
    status, output = server.command(OPENS)
    lab.check("the TPM does not open the disk under the new firmware", status != 0, output)
    status, output = server.command(BIND_AGAIN)
    lab.check("the recovery key does, and the disk is bound again", status == 0, output)
    the_tpm_keeps_the_floor(lab, server)
    lab.check("AppArmor denied nothing of firmcast", not server.shows(r'apparmor="DENIED".*firmcast'))
