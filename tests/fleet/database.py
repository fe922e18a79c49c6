"""PostgreSQL as Debian has it, in the hub's namespace: it dies and comes back."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from networks import STORE, Failed, command

START_MAX_S = 60
URL = f"postgres://fleet@{STORE}/fleet?sslmode=disable"


class Database:
    def __init__(self, networks, log):
        self.networks = networks
        # The server runs as a user who may not look into this one's folders.
        self.folder = Path(tempfile.mkdtemp(prefix="firmcast-fleet-"))
        self.log = log
        self.process = None
        self.is_up = False
        # When it did not answer: begins and ends, in seconds since 1970.
        self.away = []
        shutil.chown(self.folder, "postgres")
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username=fleet", "--no-sync"]
        command("runuser", "-u", "postgres", "--", _program("initdb"), *options, "-D", self.folder / "data", cwd="/")
        with open(self.folder / "data/pg_hba.conf", "a", encoding="utf-8") as rules:
            rules.write("host all all 10.200.0.0/16 trust\n")
        self.start()
        command(*self._client("postgres", "CREATE DATABASE fleet"))

    def start(self):
        settings = [f"listen_addresses={STORE}", f"unix_socket_directories={self.folder}", "fsync=off"]
        words = [word for setting in settings for word in ("-c", setting)]
        server = ["runuser", "-u", "postgres", "--", _program("postgres"), "-D", self.folder / "data", *words]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                list(map(str, self.networks.inside("hub", *server))), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )
        end = time.monotonic() + START_MAX_S
        while subprocess.run(list(map(str, self._client("postgres", "SELECT 1"))), capture_output=True).returncode:
            if time.monotonic() > end:
                raise Failed(f"PostgreSQL does not answer after {START_MAX_S} s: see {self.log}")
            time.sleep(0.1)
        self.is_up = True
        if self.away:
            self.away[-1][1] = time.time()

    def kill(self):
        """Its immediate shutdown: no connection is ended in order, and it recovers from its log when it starts."""
        self.is_up = False
        self.away.append([time.time(), float("inf")])
        pid = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        self.process.wait()

    def was_away(self, begin, end):
        return any(since < end and begin < until for since, until in self.away)

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    def _client(self, database, sql):
        return self.networks.inside("hub", _program("psql"), "-h", STORE, "-U", "fleet", "-d", database, "-qc", sql)


def _program(name):
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    stated = os.environ.get("POSTGRES_BIN")
    return Path(stated or folders[-1]) / name
