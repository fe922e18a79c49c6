"""What is known before anything changes: plans, dry runs, and backups that can be brought back."""

import json
import shutil

from lab import binaries, distribution
from lab.network import MANAGER_INTERFACE
from lab.scenario import scenario
from lab.shell import run
from scenarios.updates import RATE_MBIT, code_of

BUNDLES = "bundles"


@scenario(limit_s=900)
def plan_escrow_and_restore(lab):
    """Plans and dry runs tell what would happen; an update gives its backup away first, and a restore brings it back"""
    newer = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2", security_version=2)
    foreign = lab.manager.bundle("foreign", lab.firmware.seabios, version="3", preserve=False)
    server = lab.add_server(lab.firmware.ovmf_old, files={f"{BUNDLES}/{file.name}": file for file in (newer, foreign)})
    lab.boot(server)
    lab.enroll(server)
    before = code_of(server)

    dry = lab.update(newer, "--all", "--dry-run")
    lab.check_status("a dry run finds that the update could start", dry, 0)
    lab.check_ends(dry, 1, reason="possible", flash="untouched")
    dry = lab.update(foreign, "--all", "--dry-run")
    lab.check_status("a dry run of an image with another layout fails", dry, 1)
    lab.check_ends(dry, 1, reason="layout-mismatch", flash="untouched")
    refused = lab.update(foreign, "--all")
    lab.check_ends(refused, 1, reason="layout-mismatch", flash="untouched")

    plan = plan_of(lab, server, newer, 0)
    lab.check("the plan on the host changes blocks", plan["possible"] and plan["changed_eraseblocks"] > 0, plan)
    kept = [region for region in plan["regions"] if region["action"] in ("preserve", "volatile")]
    lab.check("it keeps the variables", kept and kept[0]["offset_bytes"] == 0, plan)
    changed = {block for change in plan["changes"] for block in blocks_of(change)}
    new = lab.firmware.ovmf_new.read_bytes()
    differing = {at for at in range(0, len(new), 4096) if at >= 0x20000 and new[at : at + 4096] != server.flash_bytes(at)[:4096]}
    lab.check("its blocks are those that differ", changed == differing, sorted(changed ^ differing)[:8])
    lab.check("the block at the top is last", blocks_of(plan["changes"][-1])[-1] == max(differing), plan["changes"][-1])
    lab.check("the plan for another layout is refused", plan_of(lab, server, foreign, 1)["reason"] == "layout-mismatch")
    lab.check("nothing has changed so far", code_of(server) == before)

    result = lab.update(newer, "--all", "--rate", RATE_MBIT, "--escrow")
    lab.check_status("the update with escrow is confirmed", result, 0)
    backups = lab.finish(lab.manager.start("--state", lab.manager.state, "backup", "list", "--json"))
    kept = json.loads(backups.output)
    lab.check("the manager keeps one backup", len(kept) == 1, backups.output)
    stored = (lab.manager.state / "backups" / kept[0]["sha256"]).read_bytes()
    lab.check("it is the old firmware", stored[0x20000:] == before)

    bundle = lab.manager.folder / "restore.fcb"
    made = lab.finish(
        lab.manager.start(
            "--state", lab.manager.state, "backup", "restore", kept[0]["sha256"], "--release-key", lab.manager.release_key,
            "--security-version", "2", "--output", bundle,
        )
    )  # fmt: skip
    lab.check_status("a bundle is made of the backup", made, 0)
    restored = lab.update(bundle, "--all", "--rate", RATE_MBIT)
    lab.check_status("the restore is confirmed", restored, 0)
    lab.check("the chip holds the old firmware again", code_of(server) == before)


@scenario(limit_s=900)
def a_driver_in_updates_must_be_in_the_image(lab):
    """A flash driver that lies in updates/: recovery without it is refused before the host leaves; the builder takes it with
    mkinitramfs and with dracut, and the image of dracut updates the chip"""
    kernel = lab.kernel
    installed = lab.folder / "with-updates"
    updates = installed / "lib/modules" / kernel.version / "updates/dkms"
    updates.parent.parent.parent.mkdir(parents=True)
    run("cp", "-al", (kernel.root / "lib/modules" / kernel.version).resolve(), updates.parent.parent)
    shutil.copytree(kernel.root / "boot", installed / "boot", copy_function=shutil.copy)
    updates.mkdir(parents=True)
    shutil.copy(kernel.module("bios_flash"), updates)
    without = binaries.recovery_initramfs(kernel, flash_driver=False)
    taken = binaries.recovery_initramfs(kernel, flash_driver=False, modules_dir=installed)
    images = {"without": without, "taken": taken, "dracut": distribution.recovery_initramfs(lab, "dracut", installed)}
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    server = lab.add_server(lab.firmware.ovmf_old, files={f"boot/{name}.img": file for name, file in images.items()})
    lab.boot(server)
    lab.enroll(server)
    before = server.flash_bytes()

    server.command("cp /boot/without.img /boot/firmcast-recovery.img")
    check = drivers_check(lab, server, 1)
    lab.check(f"the check refuses it: {check['detail']}", check["reason"] == "recovery-lacks-driver", check)
    lab.check("it names the module and the remedy", "lacks bios_flash (of mtd0)" in check["detail"], check)
    lab.check("it names nothing else", check["detail"].count("lacks") == 1, check)
    lab.check("the remedy is a command", f"firmcast-mkrecovery --kernel-version {kernel.version}" in check["detail"], check)
    for words in (["--dry-run"], []):
        result = lab.update(bundle, "--all", *words)
        lab.check_ends(result, 1, reason="recovery-lacks-driver", flash="untouched")
    lab.check("the server has not left its OS", server.starts == 1 and not server.shows(r"efi=noruntime"))
    lab.check("its chip did not change", server.flash_bytes() == before)

    for name in ("taken", "dracut"):
        server.command(f"cp /boot/{name}.img /boot/firmcast-recovery.img")
        check = drivers_check(lab, server, 0)
        lab.check(f"the image {name}.img that the builder makes of it is accepted: {check['detail']}", check["verdict"] == "ok", check)
        lab.check("the NIC's driver was looked for, too", "virtio_net (of eth0)" in check["detail"], check)
    dry = lab.update(bundle, "--all", "--dry-run")
    lab.check_ends(dry, 1, reason="possible", flash="untouched")
    result = lab.update(bundle, "--all", "--interface", MANAGER_INTERFACE, "--rate", RATE_MBIT)
    lab.check_status("the image of dracut finds chip and network: the update is confirmed", result, 0)
    lab.check_ends(result, 1, reason="confirmed", flash="updated")
    lab.check("the server went through the recovery kernel", server.shows(r"Command line:.*\befi=noruntime"))


def drivers_check(lab, server, status):
    """What `firmcastd check` says on the server about the drivers of recovery."""
    found, output = server.command("firmcastd check --json", timeout_s=60)
    lab.check(f"firmcastd check ends with status {status}", found == status, output)
    checks = json.loads(output[output.index("{") : output.rindex("}") + 1])["checks"]
    return {check["name"]: check for check in checks}["recovery-drivers"]


def plan_of(lab, server, bundle, status):
    """What `firmcastd plan` says on the server about a bundle."""
    found, output = server.command(f"firmcastd plan --bundle /state/{BUNDLES}/{bundle.name} --json", timeout_s=60)
    lab.check(f"firmcastd plan for {bundle.name} ends with status {status}", found == status, output)
    return json.loads(output[output.index("{") : output.rindex("}") + 1])


def blocks_of(change):
    """Offsets of the eraseblocks of one change."""
    return range(change["offset_bytes"], change["offset_bytes"] + change["length_bytes"], 4096)
