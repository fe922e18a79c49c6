"""A machine's own clock, from outside: when something happened there, whatever else this computer did."""

import bisect
import re
import socket
import threading
import time

# Each instruction takes a nanosecond; what the machine waits for takes real time.
COUNTS_INSTRUCTIONS = ("-icount", "shift=0")
# The timer of ACPI, where q35's firmware puts it: 24 bits that count on over kexecs and resets.
PORT = 0x608
HERTZ = 3_579_545
TURN = 1 << 24
POLL_S = 0.02
PROMPT = b"(qemu) "
RUNS_AS_INIT = r"\[ *([0-9.]+)\] Run \S+ as init process"


class VirtualClock(threading.Thread):
    """Use as a context manager: reads the clock and the length of the console all the time, through QEMU's monitor."""

    def __init__(self, server, monitor):
        super().__init__(daemon=True)
        self._server = server
        self._console = server.console_file
        self._monitor = socket.socket(socket.AF_UNIX)
        self._monitor.connect(str(monitor))
        self._ends = threading.Event()
        self._samples = []

    @staticmethod
    def devices(monitor):
        """The words of QEMU that this needs."""
        return (*COUNTS_INSTRUCTIONS, "-monitor", f"unix:{monitor},server=on,wait=off")

    def __enter__(self):
        self._answer()
        self.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self.join()
        self._monitor.close()

    def run(self):
        turns, before = 0, 0
        while not self._ends.wait(POLL_S):
            self._monitor.sendall(f"i /xw {PORT:#x}\n".encode())
            found = re.search(rb"= (0x[0-9a-f]+)", self._answer())
            now = int(found[1], 16) if found else TURN
            # Until the firmware has placed the timer nobody answers there.
            if now >= TURN:
                continue
            turns += now < before
            before = now
            self._samples.append((time.time(), (turns * TURN + now) / HERTZ, self._console.stat().st_size))

    def _answer(self):
        said = b""
        while not said.endswith(PROMPT):
            piece = self._monitor.recv(4096)
            if not piece:
                raise RuntimeError("QEMU's monitor has ended")
            said += piece
        return said

    def at(self, unix_s):
        """What the clock showed at a time of this computer."""
        after = bisect.bisect_left([sample[0] for sample in self._samples], unix_s)
        after = min(max(after, 1), len(self._samples) - 1)
        (since, first, _), (until, last, _) = self._samples[after - 1 : after + 1]
        return first + (last - first) * min(max((unix_s - since) / (until - since), 0), 1)

    def said(self, pattern, after_s=0):
        """When the console first showed a regular expression after a time of this clock: (the time, the match)."""
        start = next((length for _, at, length in self._samples if at > after_s), 0)
        text = self._console.read_bytes()
        found = re.compile(pattern.encode()).search(text, start)
        if not found:
            raise RuntimeError(f"/{pattern}/ is not on the console:\n{text[start:][-3000:].decode(errors='replace')}")
        return next(at for _, at, length in self._samples if length >= found.end()), found

    def kernel(self, after_s):
        """When the first kernel that came up after a time of this clock began, by its own word, and when it started init."""
        init_s, found = self.said(RUNS_AS_INIT, after_s)
        return init_s - float(found[1]), init_s
