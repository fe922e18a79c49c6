"""The stores as operators have them, on a disk: a file of SQLite, and PostgreSQL as Debian sets it up. And the same without waiting for the disk."""

import multiprocessing
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

from lab import binaries, packages
from lab.shell import run

# On the disk, and open to the user that PostgreSQL runs as.
ON_DISK = "/var/tmp"
IN_MEMORY = "/dev/shm"
NAMES = os.environ.get("BENCH_FLEET_STORES", "SQLite,PostgreSQL").split(",")
START_PATIENCE_S = 60
# Rows of the table that is changed to see how fast a bare database is.
BARE_ROWS = 10_000
BARE_UPDATE = "UPDATE bare SET n = n + 1 WHERE id = "


def stores(durable=True):
    """The stores that are asked for, one after the other, each a new one."""
    for name in NAMES:
        with {"SQLite": Sqlite, "PostgreSQL": Postgres}[name](durable) as store:
            yield store


class Store:
    """A store in a folder of its own."""

    def __init__(self, durable):
        self.durable = durable
        self.folder = Path(tempfile.mkdtemp(prefix="firmcast-bench-", dir=ON_DISK if durable or self.needs_disk else IN_MEMORY))

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def load(self, command, *options):
        """Has the store loaded by `fleet/examples/fleet_load`."""
        return run(binaries.fleet_load(), command, self.place(), *options)

    def start_page(self):
        """Starts `firmcast-fleet web`; returns the process and its address."""
        port = free_port()
        words = [binaries.fleet(), *self.words(), "web", "--listen", f"127.0.0.1:{port}"]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if "the page is at" not in process.stdout.readline():
            raise RuntimeError("firmcast-fleet web does not start")
        return process, f"127.0.0.1:{port}"


class Sqlite(Store):
    """A file. Every commit waits for the disk, unless the file lies in memory."""

    name = "SQLite"
    needs_disk = False

    def __enter__(self):
        return self

    def place(self):
        """As `fleet_load` names it."""
        return self.folder / "state"

    def clear(self):
        """Makes it a store without anything in it."""
        shutil.rmtree(self.place(), ignore_errors=True)

    def words(self):
        """As the program names it."""
        return ["--state", self.place()]

    def bare_commits_per_s(self, connections, seconds):
        """How fast processes change a row of a table, each in a transaction of its own."""
        file = self.folder / "bare.sqlite"
        with _connect(file) as database:
            database.execute("CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, n INTEGER)")
            database.executemany("INSERT OR REPLACE INTO bare VALUES (?, 0)", ((row,) for row in range(BARE_ROWS)))
        with multiprocessing.Pool(connections) as pool:
            done = pool.starmap(_change_rows, [(file, number, seconds) for number in range(connections)])
        return sum(done) / seconds


def _connect(file):
    database = sqlite3.connect(file, timeout=30)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    return database


def _change_rows(file, number, seconds):
    database = _connect(file)
    database.isolation_level = None
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        database.execute(f"{BARE_UPDATE}{(number * 1009 + done * 7) % BARE_ROWS}")
        done += 1
    return done


class Postgres(Store):
    """A server of its own on loopback, with the settings that it comes with; without waiting for the disk: `fsync=off`."""

    name = "PostgreSQL"
    needs_disk = True

    def __enter__(self):
        packages.install("postgresql")
        self.port = free_port()
        shutil.chown(self.folder, "postgres")
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--username=fleet"]
        run(*_as_postgres("initdb"), *options, "-D", self.folder / "data", cwd="/")
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}"]
        settings += [] if self.durable else ["fsync=off"]
        words = [word for setting in settings for word in ("-c", setting)]
        with open(self.folder / "log", "wb") as log:
            command = [*_as_postgres("postgres"), "-D", self.folder / "data", *words]
            self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        end = time.monotonic() + START_PATIENCE_S
        while not (self.folder / "data/postmaster.pid").exists() or self.psql("postgres", "SELECT 1", check=False).returncode:
            if time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL does not answer: {(self.folder / 'log').read_text()}")
            time.sleep(0.1)
        self.psql("postgres", "CREATE DATABASE fleet")
        return self

    def __exit__(self, *_):
        # Its immediate shutdown. The child is runuser, which passes only SIGTERM on.
        os.kill(int((self.folder / "data/postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
        self.process.wait()
        super().__exit__()

    def clear(self):
        self.psql("postgres", "DROP DATABASE fleet")
        self.psql("postgres", "CREATE DATABASE fleet")

    def place(self):
        return f"postgres://fleet@127.0.0.1:{self.port}/fleet"

    def words(self):
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        return ["--state", state, "--store", self.place()]

    def psql(self, database, sql, check=True):
        words = [_program("psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "fleet", "-d", database, "-qc", sql]
        return subprocess.run(words, check=check, capture_output=True)

    def bare_commits_per_s(self, connections, seconds):
        """What pgbench makes of the same."""
        rows = f"INSERT INTO bare SELECT id, 0 FROM generate_series(0, {BARE_ROWS - 1}) id ON CONFLICT DO NOTHING"
        self.psql("postgres", f"CREATE TABLE IF NOT EXISTS bare (id BIGINT PRIMARY KEY, n BIGINT); {rows}")
        script = self.folder / "bare.sql"
        script.write_text(f"\\set id random(0, {BARE_ROWS - 1})\n{BARE_UPDATE}:id;\n")
        words = ["-n", "-c", connections, "-j", connections, "-T", seconds, "-f", script]
        said = run(_program("pgbench"), "-h", "127.0.0.1", "-p", self.port, "-U", "fleet", *words, "postgres")
        return float(re.search(r"tps = ([\d.]+) \(without", said).group(1))


def _program(name):
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    return Path(os.environ.get("POSTGRES_BIN") or folders[-1]) / name


def _as_postgres(name):
    return ["runuser", "-u", "postgres", "--", _program(name)]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
