"""What firmcast.recover=auto costs the boot of whole firmware in a distribution's initramfs, side by side with a boot without it."""

import os
from statistics import median

from lab.distribution import OS_IS_UP
from lab.paths import OUTPUT
from lab.testbed import Lab

TOOLS = os.environ.get("BENCH_TOOLS", "mkinitramfs,dracut").split(",")
BOOTS = int(os.environ.get("BENCH_BOOTS", "2"))
BOOT_TIMEOUT_S = 180
GOAL_S = 1
# The machine's clock goes on by one nanosecond with each instruction, so that what else this computer does is not measured.
STEADY_CLOCK = ("-icount", "shift=0")
WITH, WITHOUT = "firmcast.recover=auto", ""


def measure(report):
    """The machine boots with and without the word by turns."""
    for tool in TOOLS:
        with Lab(OUTPUT / f"bench-hook-{tool}") as lab:
            image = lab.firmware.ovmf_old
            host = lab.add_dead_host(image.read_bytes(), words="", good=image, distribution=tool, devices=STEADY_CLOCK)
            took = {WITH: [], WITHOUT: []}
            for _ in range(BOOTS):
                for words, seconds in took.items():
                    seconds.append(boot(lab, host, words))
        with_s, without_s = median(took[WITH]), median(took[WITHOUT])
        report.row(
            initramfs=tool, boots=BOOTS, without_s=round(without_s, 2), with_auto_s=round(with_s, 2),
            costs_s=round(with_s - without_s, 2), spread_s=round(max(max(seconds) - min(seconds) for seconds in took.values()), 2), goal_s=GOAL_S,
        )  # fmt: skip
    report.note("seconds from the kernel's start to the OS's init, medians; the clock counts instructions, a nanosecond each, and waits")


def boot(lab, host, words):
    """One boot; returns how long the kernel had run when the OS came up."""
    host.boot_with(words)
    host.mark()
    host.start()
    lab.wait_until(lambda: host.is_off, BOOT_TIMEOUT_S, "the end of the OS")
    judged = host.shows(r"firmware is valid")
    if bool(judged) != bool(words):
        is_not = "" if judged else "not "
        raise RuntimeError(f"with {words!r} the firmware was {is_not}judged:\n{host.console_since_mark()[-3000:]}")
    return float(host.shows(OS_IS_UP).group(1))
