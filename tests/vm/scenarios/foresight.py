"""What is known before anything changes: plans, dry runs, and backups that can be brought back."""

import json

from lab.scenario import scenario
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
    kept = [region for region in plan["regions"] if region["action"] == "preserve"]
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


def plan_of(lab, server, bundle, status):
    """What `firmcastd plan` says on the server about a bundle."""
    found, output = server.command(f"firmcastd plan --bundle /state/{BUNDLES}/{bundle.name} --json", timeout_s=60)
    lab.check(f"firmcastd plan for {bundle.name} ends with status {status}", found == status, output)
    return json.loads(output[output.index("{") : output.rindex("}") + 1])


def blocks_of(change):
    """Offsets of the eraseblocks of one change."""
    return range(change["offset_bytes"], change["offset_bytes"] + change["length_bytes"], 4096)
