"""A virtual machine that has nothing but a console: quick to start, to be watched line by line, and to be killed."""

import re
import select
import shutil
import subprocess
import time

from .cache import cached
from .paths import VM_DIR
from .server import ServerFailed
from .shell import run
from .testbed import PATIENCE

CONSOLE_OS = VM_DIR / "console-os"
READY = r"^machine: ready$"
DONE = r"^machine: done (\d+)$"
BOOT_TIMEOUT_S = 120
COMMAND_TIMEOUT_S = 120


def initramfs(name, busybox, modules, files):
    """The console OS: `modules` are lines for insmod, in order, each the path of a file here and its parameters; `files`
    puts programs and data in its folders (place there -> file here)."""

    def make(folder):
        tree = folder / "tree"
        for place, source in {"init": CONSOLE_OS / "init", "bin/busybox": busybox, **files}.items():
            target = tree / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        for empty in ("proc", "sys", "dev", "lib", "etc", "tmp"):
            (tree / empty).mkdir(exist_ok=True)
        lines = []
        for module, parameters in modules:
            shutil.copy(module, tree / "lib")
            lines.append(f"/lib/{module.name} {parameters}\n")
        (tree / "etc/modules").write_text("".join(lines))
        run("sh", "-c", f"find . | cpio --quiet -o -H newc -R 0:0 > {folder / 'console-os.img'}", cwd=tree)
        shutil.rmtree(tree)

    parts = [CONSOLE_OS, busybox, *(part for module in modules for part in module)]
    parts += [part for place, source in sorted(files.items()) for part in (place, source)]
    return cached(f"console-os-{name}", parts, make) / "console-os.img"


def with_dependencies(kernel, *names):
    """The files of modules and of what they need, in the order of loading."""
    files = []
    for name in names:
        needed = run("modprobe", "-d", kernel.root, "-S", kernel.version, "--show-depends", name)
        for line in needed.splitlines():
            file = (kernel.root / line.split()[1].removeprefix(str(kernel.root)).lstrip("/")) if line.startswith("insmod ") else None
            if file and (file, "") not in files:
                files.append((file, ""))
    return files


class ConsoleMachine:
    """QEMU with the console OS. `command` is QEMU's command line without the console."""

    def __init__(self, name, command, log):
        self.name = name
        self.log = log
        self._command = [str(word) for word in command]
        self._process = None
        self._unread = ""

    def start(self):
        """Power on, until the console waits for a command."""
        self._unread = ""
        console = ["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]
        with open(self.log, "a") as errors:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command, *console],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self.read_until(READY, BOOT_TIMEOUT_S)

    def power_cut(self):
        """Pulls the plug: SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def begin(self, line):
        """Starts a command and does not wait for it."""
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def command(self, line, timeout_s=COMMAND_TIMEOUT_S):
        """Runs a shell command: (status, output)."""
        self.begin(line)
        said, done = self.read_until(DONE, timeout_s)
        return int(done.group(1)), said

    def read_until(self, pattern, timeout_s):
        """Reads whole lines until one matches: what came before it, and the match."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        said = ""
        while True:
            line, end, rest = self._unread.partition("\n")
            if not end:
                self._read_some(deadline, f"/{pattern}/; it had said {said[-2000:]!r}")
                continue
            self._unread = rest
            found = re.search(pattern, line)
            if found:
                return said, found
            said += line + "\n"

    def _read_some(self, deadline, what):
        left_s = deadline - time.monotonic()
        ready, _, _ = select.select([self._process.stdout], [], [], max(left_s, 0))
        if not ready:
            raise ServerFailed(f"{self.name}: waited too long for {what}")
        piece = self._process.stdout.read1(65536)
        if not piece:
            raise ServerFailed(f"{self.name} ended (status {self._process.wait()}) before {what}; see {self.log}")
        with open(self.log, "ab") as log:
            log.write(piece)
        self._unread += piece.decode("utf-8", "replace").replace("\r", "")
