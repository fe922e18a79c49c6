"""Packages that only a distribution with rpm has, made of Debian's files so that they truly work."""

import shutil
from pathlib import Path

from lab import distribution, packages
from lab.cache import cached
from lab.kernel import Kernel
from lab.shell import run, write

ROOT = Path(__file__).resolve().parents[2]
# What firmcast's packages need, by the names that Fedora has for it.
PROVIDES = ("/bin/sh", "/bin/bash", "bash", "coreutils", "cpio", "dracut", "kmod", "shadow-utils", "systemd", "udev", "util-linux", "zstd")
LIBRARIES = ("libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2")
# Nothing of Debian is stripped, compressed or looked through for what it needs.
PREAMBLE = """\
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}
%global _build_id_links none
%global _binary_payload w.ufdio
Name: {name}
Version: {version}
Release: {release}
Summary: {name}, made of Debian's files for a test
License: MIT
AutoReqProv: no
"""
BASE = """
%description
A Debian with dracut and systemd.
%install
cp -a {tree}/. %{{buildroot}}/
rm -rf %{{buildroot}}/dev %{{buildroot}}/proc %{{buildroot}}/sys %{{buildroot}}/var/lib/apt %{{buildroot}}/usr/share/doc
# There are no stubs of boot loaders here: kernel-install has nothing to copy.
%files
{places}
"""
# What Fedora's spec has: depmod when modules are there, kernel-install at the end of the transaction.
KERNEL = """\
Provides: installonlypkg(kernel)
Requires: systemd
%description
Linux {release_name}
%install
mkdir -p %{{buildroot}}/lib/modules
cp -a {modules} %{{buildroot}}/lib/modules/{release_name}
cp {image} %{{buildroot}}/lib/modules/{release_name}/vmlinuz
rm -f %{{buildroot}}/lib/modules/{release_name}/modules.*.bin
%post
depmod -a {release_name}
%posttrans
echo "lab: kernel-install add {release_name}"
kernel-install add {release_name} /lib/modules/{release_name}/vmlinuz || exit $?
%preun
kernel-install remove {release_name} || exit $?
%postun
rm -rf /lib/modules/{release_name}
%files
/lib/modules/{release_name}
"""
MODULE = """\
%description
A driver that is no part of the kernel.
%install
mkdir -p %{{buildroot}}/lib/modules/{release_name}/extra
cp {file} %{{buildroot}}/lib/modules/{release_name}/extra/
%post
depmod -a {release_name}
%files
/lib/modules/{release_name}/extra
"""


def version_of(release):
    """6.1.0-49-amd64 as version and release of an rpm."""
    version, _, rest = release.partition("-")
    return f"{version}-{rest.replace('-', '.')}"


def _build(name, version, body, folder):
    """Builds one package and puts it into `folder`."""
    version, _, release = version.partition("-")
    spec = write(folder / f"{name}.spec", PREAMBLE.format(name=name, version=version, release=release or "1") + body)
    run("rpmbuild", "-bb", "--define", f"_topdir {folder}/build", spec)
    for made in (folder / "build/RPMS").glob("*/*.rpm"):
        shutil.move(made, folder)
    shutil.rmtree(folder / "build")


def _cached(name, version, body, *parts):
    folder = cached(f"rpm-{name}", [name, version, PREAMBLE, body, *parts], lambda place: _build(name, version, body, place))
    return next(folder.glob("*.rpm"))


def base():
    """A whole Debian with dracut, which says that it is everything that firmcast's packages need."""
    tree = distribution.tree("dracut")
    libraries = tree / "lib/x86_64-linux-gnu"
    found = [run("/usr/lib/rpm/elfdeps", "--provides", (libraries / name).resolve()).split() for name in LIBRARIES]
    names = [*PROVIDES, "rtld(GNU_HASH)", *sorted({name for names in found for name in names})]
    provides = "".join(f"Provides: {name}\n" for name in names)
    places = "\n".join(f"/{item.name}" for item in sorted(tree.iterdir()) if item.name not in ("dev", "proc", "sys"))
    return _cached("lab-base", "1-1", provides + BASE.format(tree=tree, places=places), tree.parent.name)


def cloud_kernel():
    """Another kernel of Debian, for virtual machines: a small one."""
    name = packages.dependency("linux-image-cloud-amd64", r"linux-image-\S+")
    version = packages.versions(name)[0]
    folder = cached("kernel-cloud", [name, version], lambda place: packages.unpack(name, version, place))
    return Kernel(name.removeprefix("linux-image-"), folder)


def kernel(item):
    """kernel-core with its modules, as Fedora's: the kernel lies among them."""
    modules = (item.root / "lib/modules" / item.version).resolve()
    body = KERNEL.format(release_name=item.version, modules=modules, image=item.image)
    return _cached("kernel-core", version_of(item.version), body, item.root.name)


def module(item, name):
    """One of the lab's own modules for this kernel."""
    file = item.module(name)
    return _cached(f"kmod-{name}", "1-1", MODULE.format(release_name=item.version, file=file), file)


def higher(folder, built):
    """firmcast's packages from this tree, with a higher version, another configuration and another builder."""
    shutil.rmtree(folder, ignore_errors=True)
    tree = folder / "firmcast-9.9"
    tree.mkdir(parents=True)
    run("sh", "-c", f'git ls-files -z | xargs -0 tar -c --null | tar -x -C "{tree}"', cwd=ROOT)
    for name in ("docs/agent.toml", "initramfs/modprobe.conf"):
        file = tree / name
        file.write_text(file.read_text() + "# in version 9.9\n")
    run("tar", "-czf", folder / "firmcast-9.9.tar.gz", "-C", folder, tree.name)
    define = ["--define", f"_topdir {folder}/build", "--define", f"_sourcedir {folder}", "--define", "firmcast_version 9.9"]
    run("rpmbuild", "-bb", *define, tree / "packaging/firmcast.spec", env={"FIRMCAST_BUILT": str(built)})
    return sorted((folder / "build/RPMS").glob("*/*.rpm"))
