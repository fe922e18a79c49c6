"""Running other programs, with errors that show what was run and what it said."""

import os
import subprocess
import time
from pathlib import Path

OUTPUT_SHOWN_MAX = 4000
RETRY_PAUSE_S = 5


class CommandFailed(Exception):
    """A program that had to succeed did not."""


def run(*command, cwd=None, env=None, stdin=None, timeout_s=1800):
    """Runs `command` to its end and returns its standard output; raises `CommandFailed` with its output otherwise."""
    words = [str(word) for word in command]
    environment = {**os.environ, **(env or {})}
    result = subprocess.run(words, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, timeout=timeout_s)
    if result.returncode != 0:
        said = (result.stdout + result.stderr)[-OUTPUT_SHOWN_MAX:]
        raise CommandFailed(f"`{' '.join(words)}` ended with status {result.returncode}:\n{said}")
    return result.stdout


def run_with_retries(*command, attempts=4, **options):
    """For programs that need the network: tries again after a pause that grows."""
    for attempt in range(1, attempts + 1):
        try:
            return run(*command, **options)
        except CommandFailed as failure:
            if attempt == attempts:
                raise
            print(f"lab: attempt {attempt} of {attempts} failed, trying again: {failure}", flush=True)
            time.sleep(RETRY_PAUSE_S * attempt)


def write(path, text):
    """Writes a text file and makes its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
