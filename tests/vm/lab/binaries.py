"""The programs under test, built as a release is; a path in the environment takes the place of a build."""

import os
from pathlib import Path

from .cache import cached
from .paths import PROJECT, TARGET
from .shell import CommandFailed, run

STATIC_TARGET = "x86_64-unknown-linux-gnu"
STATIC = {"RUSTFLAGS": run(PROJECT / "packaging/rustflags", "firmcastd", env={"CARGO_TARGET_DIR": str(TARGET)}).strip()}
STATIC_RELEASE = TARGET / STATIC_TARGET / "release"


def firmcastd():
    """The static agent (`FIRMCASTD` overrides)."""
    return _given("FIRMCASTD") or _static("--bin", "firmcastd")


def flash_exercise():
    """The static program that drives the MTD layer and the flash engine on a device (`FLASH_EXERCISE` overrides)."""
    return _given("FLASH_EXERCISE") or _static("--example", "flash_exercise")


def firmcast():
    """The manager (`FIRMCAST` overrides)."""
    return _given("FIRMCAST") or _build(TARGET / "fast" / "firmcast", "--profile", "fast", "-p", "firmcast-manager")


def fleet():
    """The fleet's program (`LAB_FLEET` overrides)."""
    return _given("LAB_FLEET") or _build(TARGET / "fast" / "firmcast-fleet", "--profile", "fast", "-p", "firmcast-fleet")


def transfer_bench():
    """The driver of one transfer over real sockets, for benchmarks (`TRANSFER_BENCH` overrides)."""
    built = TARGET / "fast" / "examples" / "transfer_bench"
    return _given("TRANSFER_BENCH") or _build(built, "--profile", "fast", "--example", "transfer_bench")


def send_rate():
    """The program that sends a stream as fast as it can, for benchmarks (`SEND_RATE` overrides)."""
    built = TARGET / "fast" / "examples" / "send_rate"
    return _given("SEND_RATE") or _build(built, "--profile", "fast", "--example", "send_rate")


def flood():
    """The program that floods an agent, for benchmarks (`FLOOD` overrides)."""
    return _given("FLOOD") or _build(TARGET / "fast" / "examples" / "flood", "--profile", "fast", "--example", "flood")


def fleet_load():
    """The program that loads the fleet's store, for benchmarks (`FLEET_LOAD` overrides)."""
    built = TARGET / "fast" / "examples" / "fleet_load"
    return _given("FLEET_LOAD") or _build(built, "--profile", "fast", "-p", "firmcast-fleet", "--example", "fleet_load")


def simulator():
    """The simulator, for benchmarks (`FIRMCAST_SIM` overrides)."""
    return _given("FIRMCAST_SIM") or _build(TARGET / "fast" / "firmcast-sim", "--profile", "fast", "-p", "firmcast-sim")


def recovery_initramfs(kernel, extra_modules=(), *, flash_driver=True, modules_dir=None):
    """The recovery initramfs, built by the command that an administrator uses, for a kernel that is not installed.

    Without `flash_driver` the lab's driver of the chip is not named; `modules_dir` is another root of the kernel's modules.
    """
    agent = firmcastd()
    builder = PROJECT / "initramfs"
    modules = [*([kernel.module("bios_flash")] if flash_driver else []), *extra_modules]
    root = modules_dir or kernel.root

    def make(folder):
        extra = [word for module in modules for word in ("--extra-module", module)]
        run(
            builder / "firmcast-mkrecovery", "--firmcastd", agent, "--kernel-version", kernel.version,
            "--modules-dir", root, *extra, "--output", folder / "recovery.img",
        )  # fmt: skip
        size_bytes = (folder / "recovery.img").stat().st_size
        if size_bytes % 4:
            raise CommandFailed(f"the kernel would not find an archive behind the recovery image of {size_bytes} bytes")

    return cached("recovery", [agent, builder, kernel.root.name, root.name, *modules], make) / "recovery.img"


def _given(variable):
    return Path(os.environ[variable]).resolve() if os.environ.get(variable) else None


def _static(kind, name):
    folder = STATIC_RELEASE / ("examples" if kind == "--example" else "")
    return _build(folder / name, "--release", "--target", STATIC_TARGET, kind, name, env=STATIC)


_built = {}


def _build(path, *arguments, env=None):
    """Lets cargo build it, once per run."""
    if path not in _built:
        print(f"lab: building {path.name}", flush=True)
        run("cargo", "build", "--locked", *arguments, cwd=PROJECT, env=env, timeout_s=3600)
        _built[path] = path
    return path
