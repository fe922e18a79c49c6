#!/usr/bin/env python3
"""The VM lab of firmcast: virtual servers with real firmware in emulated flash. See docs/LAB.md."""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab import armhf, binaries, firmware, initramfs, kernel, packages, runner, scenario
from lab.paths import OUTPUT
from lab.prompt import Prompt
from lab.testbed import Lab


def main():
    arguments = parse_arguments()
    # A terminated lab cleans up like one that ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return arguments.act(arguments)
    except packages.LabCannotRun as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("list", help="the scenarios")
    command.set_defaults(act=list_scenarios)

    command = commands.add_parser("prepare", help="installs and builds what the lab needs, once")
    command.set_defaults(act=prepare)

    command = commands.add_parser("run", help="runs scenarios, all when none is named")
    command.add_argument("names", nargs="*", metavar="NAME")
    command.add_argument("--kvm", action="store_true", help="use KVM instead of TCG")
    command.add_argument("--keep", action="store_true", help="after each scenario, a prompt in the running lab")
    command.add_argument("--jobs", type=int, default=1, metavar="N", help="run N labs at a time (default 1)")
    command.set_defaults(act=run)

    command = commands.add_parser("up", help="starts servers and gives a prompt")
    command.add_argument("--servers", type=int, default=1, metavar="N")
    command.add_argument("--flash", type=Path, metavar="FILE", help="firmware image, 2 MiB (default: the older OVMF)")
    command.add_argument("--nic", default="virtio-net-pci", metavar="MODEL", help="a NIC model that QEMU knows")
    command.add_argument("--loss", type=float, default=0, metavar="PERCENT", help="UDP loss, in both directions")
    command.add_argument("--dhcp", action="store_true", help="the servers ask for their addresses")
    command.add_argument("--bare", action="store_true", help="without firmcast: the light OS alone")
    command.add_argument("--kvm", action="store_true", help="use KVM instead of TCG")
    command.set_defaults(act=up)
    return parser.parse_args()


def list_scenarios(_):
    for item in scenario.load().values():
        print(f"{item.name:34} {item.about}" + (" (only when named)" if item.on_demand else ""))
    return 0


def prepare(_):
    packages.require_root()
    packages.install(*packages.NEEDED)
    found = kernel.prepare()
    print(f"kernel {found.version}: {found.image}")
    print(f"server OS: {initramfs.prepare(found)}")
    images = firmware.prepare()
    print(f"firmware: {images.ovmf_old}, {images.ovmf_new}, {images.seabios}")
    print(f"firmcastd: {binaries.firmcastd()}\nfirmcast: {binaries.firmcast()}")
    print(f"recovery: {binaries.recovery_initramfs(found)}")
    print(f"for the ARM board: {armhf.flash_exercise()}")
    return 0


def run(arguments):
    known = scenario.load()
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        print(f"lab: no scenario {', '.join(unknown)}; `lab.py list` shows them", file=sys.stderr)
        return 2
    # In their own order, whatever the command line's: scenarios of one group may stand on each other.
    chosen = [s for s in known.values() if (s.name in arguments.names if arguments.names else not s.on_demand)]
    return runner.run(chosen, arguments.kvm, arguments.keep, arguments.jobs)


def up(arguments):
    with Lab(OUTPUT / "up", kvm=arguments.kvm, with_manager=not arguments.bare) as lab:
        if arguments.dhcp:
            lab.start_dhcp_server()
        lab.network.set_loss(arguments.loss, arguments.loss)
        for _ in range(arguments.servers):
            lab.add_server(
                arguments.flash or lab.firmware.ovmf_old,
                nic=arguments.nic,
                address="dhcp" if arguments.dhcp else None,
                agent=not arguments.bare,
            )
        lab.boot(*lab.servers)
        Prompt(lab).cmdloop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
