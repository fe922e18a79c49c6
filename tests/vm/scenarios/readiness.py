"""What stands in the way is known before an instruction: on the host, in discovery, and in a dry run."""

import json
import shutil

from lab.network import MANAGER_INTERFACE
from lab.scenario import scenario

# Scope(\_SB) { Device(SPIC) { Name(_HID, "AMDI0061") } }: a controller of which Debian's kernels have no driver (ACPI 6.5, section 20.2).
SPI_CONTROLLER = (
    b"\x10\x1c\\_SB_" + b"\x5b\x82\x14SPIC" + b"\x08_HID\x0dAMDI0061\0"
)  # fmt: skip


@scenario(limit_s=300)
def what_is_in_the_way_is_known_before(lab):
    """The recovery kernel is tried before an instruction, one that the kernel refuses is told; a missing flash driver is named"""
    table = lab.folder / "controller.aml"
    table.write_bytes(SPI_CONTROLLER)
    kernel = lab.kernel
    config = f"boot/config-{kernel.version}"
    spoilt = lab.folder / "spoilt"
    shutil.copy(kernel.image, spoilt)
    with open(spoilt, "r+b") as file:
        file.seek(-4096, 2)
        file.write(b"spoilt")
    bundle = lab.manager.bundle("newer", lab.firmware.ovmf_new, version="2")
    server = lab.add_server(
        lab.firmware.ovmf_old,
        files={config: kernel.root / config, "boot/spoilt": spoilt},
        devices=("-acpitable", f"sig=SSDT,rev=2,data={table}"),
    )
    lab.boot(server)
    lab.enroll(server)

    kexec = checks(lab, server, 0)["kexec"]
    lab.check(f"the kernel was tried: {kexec['detail']}", "tried" in kexec["detail"] and kexec["verdict"] == "ok", kexec)
    lab.check("none stayed loaded", server.command("cat /sys/kernel/kexec_loaded")[1].strip().endswith("0"))
    summary = summary_of(lab)
    lab.check("discovery counts it as ready", (summary["hosts"], summary["can_update"]) == (1, 1), summary)

    server.command("echo integrity > /sys/kernel/security/lockdown || { mount -t securityfs s /sys/kernel/security; echo integrity > /sys/kernel/security/lockdown; }")
    server.command("sed -i 's,^recovery_kernel.*,recovery_kernel = \"/boot/spoilt\",' /etc/firmcast/agent.toml")
    kexec = checks(lab, server, 1)["kexec"]
    refused = (kexec["verdict"], kexec["reason"]) == ("not-ok", "kexec-unavailable")
    lab.check(f"under lockdown a kernel whose signature is wrong is refused by the check: {kexec['detail']}", refused, kexec)
    dry = lab.update(bundle, "--all", "--dry-run")
    lab.check_ends(dry, 1, flash="untouched")

    server.command("rmmod bios_flash")
    flash = checks(lab, server, 1)["flash"]
    lab.check(f"the missing driver is named: {flash['detail']}", flash["reason"] == "flash-driver-missing", flash)
    named = "AMDI0061:00 has no driver: spi-amd (CONFIG_SPI_AMD) is not built for this kernel" in flash["detail"]
    lab.check("with the option that the kernel lacks", named, flash)
    dry = lab.update(bundle, "--all", "--dry-run")
    lab.check_ends(dry, 1, reason="flash-driver-missing", flash="untouched")
    summary = summary_of(lab)
    found = {(finding["check"], finding["reason"]): finding["hosts"] for finding in summary["findings"]}
    lab.check("discovery counts it", found.get(("flash", "flash-driver-missing")) == [server.name], summary)
    lab.check("nothing was started", server.starts == 1 and not server.shows(r"efi=noruntime"))


def checks(lab, server, status):
    """What `firmcastd check` says on the server, by name."""
    found, output = server.command("firmcastd check --json", timeout_s=90)
    lab.check(f"firmcastd check ends with status {status}", found == status, output)
    return {check["name"]: check for check in json.loads(output[output.index("{") : output.rindex("}") + 1])["checks"]}


def summary_of(lab):
    """What `firmcast discover --summary` counts."""
    asked = lab.finish(lab.manager.start("discover", "--interface", MANAGER_INTERFACE, "--summary", "--json", *lab.manager.credentials()), 60)
    return json.loads(asked.output)
