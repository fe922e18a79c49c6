"""Kernel files of other architectures: Debian packages that are only unpacked, from lists of their own. Debian packs no
kernel of arm64 as an EFI zboot image, but those of loong64."""

import re
import shutil

from lab import packages
from lab.shell import run, run_with_retries

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org/debian"
# The architecture, its suite, and the package with the smallest kernel file.
PACKED = ("loong64", "sid", r"linux-binary-\d\S*-loong64")
PLAIN = ("arm64", "bookworm", r"linux-image-\d\S*-cloud-arm64")


def kernel(folder, what):
    """The kernel file of a package."""
    architecture, suite, pattern = what
    place = folder / "kernels" / architecture
    found = place / "vmlinuz"
    if not found.exists():
        shutil.rmtree(place, ignore_errors=True)
        for name in ("lists/partial", "cache/archives/partial", "tree"):
            (place / name).mkdir(parents=True)
        (place / "sources").write_text(f"deb [signed-by={KEYRING} arch={architecture}] {MIRROR} {suite} main\n")
        options = []
        for setting in (
            f"APT::Architecture={architecture}", f"APT::Architectures::={architecture}", f"Dir::State::lists={place}/lists",
            f"Dir::Cache={place}/cache", f"Dir::Etc::sourcelist={place}/sources", "Dir::Etc::sourceparts=-",
            "Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ):  # fmt: skip
            options += ["-o", setting]
        run_with_retries("apt-get", *options, "update", env=packages.APT_ENVIRONMENT)
        names = re.findall(rf"^({pattern}) ", run("apt-cache", *options, "search", "--names-only", r"^linux-"), re.MULTILINE)
        if not names:
            raise packages.LabCannotRun(f"no package of {architecture} in {suite} is called {pattern}")
        run_with_retries("apt-get", *options, "download", names[-1], cwd=place, env=packages.APT_ENVIRONMENT)
        run("dpkg", "-x", next(place.glob("*.deb")), place / "tree")
        shutil.move(next(path for path in place.glob("tree/**/vmlinuz*") if path.is_file()), found)
        for rest in (place / "tree", place / "lists"):
            shutil.rmtree(rest)
    return found
