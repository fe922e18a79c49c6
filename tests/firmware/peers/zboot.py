"""Kernels that are packed for the firmware alone (EFI zboot): recognised by `firmcastd check`, unpacked by
initramfs/unpack-zboot."""

import json
import struct
import subprocess

from lab.shell import run

from . import kernels

# Linux drivers/firmware/efi/libstub/zboot-header.S: offset and size of the payload, and the name of its compression.
PLACE = struct.Struct("<II")
PLACE_AT, COMPRESSION_AT = 8, 0x18
# Makefile.zboot appends the size of what is packed, outside of the size that the head states; gzip has it anyway.
METHODS = {b"gzip": (["gzip", "-1nc"], False), b"zstd": (["zstd", "-1qc"], True), b"xzkern": (["xz", "-0c"], True)}


def check(root, folder, firmcastd, failures):
    """One real packed kernel of another architecture, and a real kernel of arm64, plain and packed as Linux packs it."""
    place = folder / "zboot"
    place.mkdir(exist_ok=True)
    out, packed, plain = place / "kernel", kernels.kernel(folder, kernels.PACKED), kernels.kernel(folder, kernels.PLAIN)

    def said_of(file):
        (place / "agent.toml").write_text(
            f'recovery_kernel = "{file}"\nrecovery_initramfs = "{place}/none"\nstate_dir = "{place}"\n'
        )
        found = subprocess.run([firmcastd, "check", "--json", "--config", place / "agent.toml"], capture_output=True, text=True)
        checks = json.loads(found.stdout)["checks"]
        return next((one["verdict"], one["detail"]) for one in checks if one["name"] == "recovery-kernel")

    def unpacked(file):
        out.unlink(missing_ok=True)
        return subprocess.run([root / "initramfs/unpack-zboot", file, out], capture_output=True, text=True)

    def expect_packed(file):
        verdict, detail = said_of(file)
        fits = verdict == "not-ok" and "EFI zboot" in detail and "firmcast-mkrecovery --all keeps it unpacked" in detail
        failures.check(fits, f"{file.name}: {verdict}, {detail}")

    expect_packed(packed)
    result = unpacked(packed)
    is_refused = result.returncode == 1 and "what is packed in it is no kernel that kexec takes" in result.stderr
    failures.check(is_refused and not out.exists(), f"{packed}: {result}")
    image = plain.read_bytes()
    failures.check(image[0x38:0x3C] == b"ARMd", f"{plain} is no Image of arm64")
    failures.check(said_of(plain)[0] == "ok", f"{plain}: {said_of(plain)}")
    failures.check(unpacked(plain).returncode == 2, f"{plain} is taken for a packed kernel")
    for method in METHODS:
        made = place / f"zboot-{method.decode()}"
        made.write_bytes(packed_by(method, packed.read_bytes(), plain))
        expect_packed(made)
        result = unpacked(made)
        failures.check(result.returncode == 0 and out.read_bytes() == image, f"{made}: {result}")
        failures.check(said_of(out)[0] == "ok", f"{made}, unpacked: {said_of(out)}")
        made.write_bytes(made.read_bytes()[: len(made.read_bytes()) // 2])
        failures.check(unpacked(made).returncode == 1, f"half of {made} is unpacked")
    return 2 + len(METHODS)


def packed_by(method, real, image):
    """An EFI zboot file with `image` in it: head and program of a real one, the payload as Linux compresses it."""
    command, has_size = METHODS[method]
    payload = subprocess.run([*command, image], capture_output=True, check=True).stdout
    start, _ = PLACE.unpack_from(real, PLACE_AT)
    head = bytearray(real[:start])
    PLACE.pack_into(head, PLACE_AT, start, len(payload))
    head[COMPRESSION_AT : COMPRESSION_AT + 8] = method.ljust(8, b"\0")
    size = struct.pack("<I", image.stat().st_size) if has_size else b""
    return bytes(head) + payload + size


