"""Debian packages: what the lab needs on this machine, and packages that are only unpacked."""

import os
import re
import subprocess
import sys

from .shell import CommandFailed, run, run_with_retries

NEEDED = (
    "qemu-system-x86 ovmf seabios busybox-static kmod cpio zstd xz-utils iproute2 nftables "
    "e2fsprogs initramfs-tools-core make gcc util-linux"
).split()

APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
_updated = False


class LabCannotRun(Exception):
    """This machine cannot run the lab; the message says what is missing."""


def require_root():
    """Namespaces, taps and `dpkg -x` with owners need root."""
    if os.geteuid() != 0:
        raise LabCannotRun("the lab makes network namespaces and installs packages: run it as root")


def install(*names):
    """Installs the packages that are not there yet."""
    missing = [name for name in names if not _installed(name)]
    if not missing:
        return
    print(f"lab: installing {' '.join(missing)}", flush=True)
    update()
    # Another installation may be under way: it is waited for.
    run_with_retries("apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", *missing, env=APT_ENVIRONMENT)


def update():
    """Fetches the package lists, once per run."""
    global _updated
    if not _updated:
        run_with_retries("apt-get", "update", env=APT_ENVIRONMENT)
        _updated = True


def _installed(name):
    result = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name], capture_output=True, text=True)
    return result.returncode == 0 and result.stdout == "installed"


def versions(name):
    """All versions of a package that apt can fetch, newest first."""
    listed = run("apt-cache", "madison", name)
    if not listed.strip():
        update()
        listed = run("apt-cache", "madison", name)
    found = []
    for line in listed.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3 and fields[2].endswith("Packages") and fields[1] not in found:
            found.append(fields[1])
    return found


def dependency(name, pattern):
    """The dependency of package `name` that matches `pattern`: what a meta package stands for."""
    if not versions(name):
        raise LabCannotRun(f"apt knows no package {name}: are the Debian sources configured?")
    found = re.search(rf"Depends: ({pattern})", run("apt-cache", "depends", name))
    if not found:
        raise LabCannotRun(f"package {name} depends on nothing like {pattern}")
    return found.group(1)


def unpack(name, version, folder):
    """Downloads one package and unpacks it into `folder` without installing it."""
    try:
        run("apt-get", "download", f"{name}={version}", cwd=folder, env=APT_ENVIRONMENT)
    except CommandFailed as failure:
        # The lists may be older than the mirror.
        print(f"lab: {failure}\nlab: fetching the package lists again", file=sys.stderr)
        update()
        run_with_retries("apt-get", "download", f"{name}={version}", cwd=folder, env=APT_ENVIRONMENT)
    for package in folder.glob("*.deb"):
        run("dpkg", "-x", package, folder)
        package.unlink()
