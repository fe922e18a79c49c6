"""A TPM for a virtual server, and a disk that its key can be bound to: swtpm, cryptsetup and clevis of Debian."""

import subprocess

from . import packages
from .shell import run

# What a server needs to bind a disk, beside the Debian that it has: packages, and modules of the kernel.
IN_DEBIAN = (
    ("cryptsetup-bin", "clevis", "clevis-luks", "clevis-tpm2", "tpm2-tools", "jq"),
    ("dm_crypt", "xts", "algif_skcipher"),
)
PASSPHRASE = "recovery-key"
DISK_BYTES = 20 * 1024 * 1024


def start(lab):
    """Starts a TPM 2.0, which lives until the lab ends; returns QEMU's options for it."""
    packages.install("swtpm", "cryptsetup-bin")
    state, socket = lab.folder / "tpm", lab.sockets / "tpm"
    state.mkdir()
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={socket}"]
    with open(lab.folder / "tpm.log", "w") as log:
        # In the lab's namespace, so that it ends with it.
        inside = lab.network.inside("setpriv", "--pdeathsig", "KILL", *command)
        subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    lab.wait_until(socket.exists, 10, "swtpm's socket")
    return (
        "-chardev", f"socket,id=tpm,path={socket}", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm0",
    )  # fmt: skip


def encrypted_disk(file):
    """Makes a disk with LUKS2 that opens with `PASSPHRASE`; returns QEMU's options for it."""
    with open(file, "wb") as disk:
        disk.truncate(DISK_BYTES)
    options = ["--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-"]
    run("cryptsetup", "luksFormat", "--batch-mode", *options, file, stdin=PASSPHRASE)
    return ("-drive", f"if=virtio,format=raw,file={file}")
