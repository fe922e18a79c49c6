"""Debian packages for 32-bit ARM, and firmcast's programs built for it.

The packages are only unpacked. apt reads its lists for this architecture from a folder of its own: the machine is not told
that it has another architecture.
"""

import fcntl
import os
import re
import shutil
import sys
from pathlib import Path

from . import packages
from .cache import CACHE, cached, digest_of
from .paths import PROJECT, TARGET
from .shell import CommandFailed, run, run_with_retries, write

ARCHITECTURE = "armhf"
RUST_TARGET = "armv7-unknown-linux-gnueabihf"
CROSS_PACKAGES = ("gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross")
# Debian has no newer Rust with a standard library for another architecture.
RUST_PACKAGES = ("rustc-web", "libstd-rust-web-1.85", "libstd-rust-web-dev", f"libstd-rust-web-dev:{ARCHITECTURE}", "libllvm19")
# What of the language and the library became stable after that version, in firmcast and in its dependencies.
FEATURES = "let_chains,unsigned_is_multiple_of,integer_sign_cast,slice_as_chunks"
# Of the standard library, which not every dependency has: for firmcast alone.
OWN_FEATURES = "os_str_display"
# Dependencies whose locked version needs a newer Rust, and one that does not.
OLDER_DEPENDENCIES = {"time": "0.3.41"}
FOLDER = TARGET / ARCHITECTURE


def unpack(folder, *names):
    """Downloads packages (`name`, or `name:armhf`) and unpacks them over one another in `folder`."""
    options = _apt_options()
    _fetch_lists_for(names, options)
    run_with_retries("apt-get", *options, "download", *names, cwd=folder, env=packages.APT_ENVIRONMENT)
    for package in sorted(folder.glob("*.deb")):
        run("dpkg", "-x", package, folder)
        package.unlink()


def dependency(name, pattern):
    """The package that the meta package `name` stands for."""
    options = _apt_options()
    _fetch_lists_for([name], options)
    found = re.search(rf"Depends: ({pattern})", run("apt-cache", *options, "depends", name))
    if not found:
        raise packages.LabCannotRun(f"package {name} depends on nothing like {pattern}")
    return found.group(1)


def _apt_options():
    state = CACHE / f"apt-{ARCHITECTURE}"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    architectures = [option for name in ("amd64", ARCHITECTURE) for option in ("-o", f"APT::Architectures::={name}")]
    return [*architectures, "-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}/cache"]


def _fetch_lists_for(names, options):
    def known():
        return all("Candidate: " in run("apt-cache", *options, "policy", name) for name in names)

    with open(CACHE / f"apt-{ARCHITECTURE}/update.lock", "w") as lock:
        # Two scenarios may need the lists at once, and apt waits for nobody.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(4):
            if known():
                return
            try:
                run("apt-get", *options, "update", env=packages.APT_ENVIRONMENT)
            except CommandFailed as failure:
                # A mirror in the middle of its own update: one list may be missing, and the others do.
                print(f"lab: {failure}", file=sys.stderr)
    raise packages.LabCannotRun(f"apt does not know all of {', '.join(names)}: are the Debian sources configured?")


def flash_exercise():
    """The static program that drives the flash engine (`FLASH_EXERCISE_ARMHF` overrides)."""
    given = os.environ.get("FLASH_EXERCISE_ARMHF")
    return Path(given).resolve() if given else _build("--example", "flash_exercise")


def firmcastd():
    """The static agent (`FIRMCASTD_ARMHF` overrides)."""
    given = os.environ.get("FIRMCASTD_ARMHF")
    return Path(given).resolve() if given else _build("--bin", "firmcastd")


_built = {}


def _build(kind, name):
    """Lets this machine's cargo build with Debian's compiler; once per run."""
    if name not in _built:
        packages.install(*CROSS_PACKAGES)
        compiler = _compiler()
        tree = _tree()
        print(f"lab: building {name} for {ARCHITECTURE}", flush=True)
        environment = {
            "CARGO_TARGET_DIR": str(FOLDER),
            "RUSTC": str(compiler),
            "RUSTFLAGS": "-C target-feature=+crt-static -C force-unwind-tables=no",
            f"CARGO_TARGET_{RUST_TARGET.upper().replace('-', '_')}_LINKER": "arm-linux-gnueabihf-gcc",
        }
        run(
            "cargo", "build", "--locked", "--ignore-rust-version", "--profile", "fast", "--target", RUST_TARGET, kind, name,
            cwd=tree, env=environment, timeout_s=3600,
        )  # fmt: skip
        place = FOLDER / RUST_TARGET / "fast" / ("examples" if kind == "--example" else "")
        _built[name] = place / name
    return _built[name]


def _compiler():
    """A script that runs Debian's rustc out of its unpacked packages, with the features that are stable by now."""
    root = cached(f"rust-{ARCHITECTURE}", RUST_PACKAGES, lambda folder: unpack(folder, *RUST_PACKAGES))
    text = f"""#!/bin/sh
export LD_LIBRARY_PATH="{root}/usr/lib/x86_64-linux-gnu" RUSTC_BOOTSTRAP=1
case " $* " in
*" --crate-name firmcast"*" --target armv7"*) set -- "$@" '-Zcrate-attr=feature({FEATURES},{OWN_FEATURES})' ;;
*" --crate-name "*" --target armv7"*) set -- "$@" '-Zcrate-attr=feature({FEATURES})' ;;
esac
exec "{root}/usr/bin/rustc" "$@"
"""
    script = FOLDER / "rustc"
    if not script.exists() or script.read_text() != text:
        write(script, text).chmod(0o755)
    return script


def _tree():
    """The agent's package once more, by links, with a lock file of its own: the others ask for what that compiler cannot make."""
    tree = FOLDER / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    for entry in PROJECT.iterdir():
        link = tree / entry.name
        if entry.name not in ("target", ".git", "Cargo.lock", "Cargo.toml") and not link.is_symlink():
            link.symlink_to(entry)
    manifest = re.sub(r"(?m)^members = .*$", 'members = ["."]', (PROJECT / "Cargo.toml").read_text())
    made_from = digest_of(PROJECT / "Cargo.lock", manifest, *OLDER_DEPENDENCIES.items())
    mark = tree / "lock-made-from"
    if not mark.exists() or mark.read_text() != made_from:
        (tree / "Cargo.toml").unlink(missing_ok=True)
        write(tree / "Cargo.toml", manifest)
        shutil.copy(PROJECT / "Cargo.lock", tree / "Cargo.lock")
        for name, version in OLDER_DEPENDENCIES.items():
            run_with_retries("cargo", "update", "-p", name, "--precise", version, cwd=tree)
        mark.write_text(made_from)
    return tree
