"""A small fleet: the store and the worker are real, the hosts are played (see `firmcast` here)."""

import csv
import json
import os
import pathlib
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parent.parent / "target" / "debug"

ROLLOUT = """
name = "winter"
release = "2.1"
hosts = "all"

[[wave]]
name = "canary"
count = 6

[[wave]]
name = "rest"
rest = true

[limits]
in-flight = [{ per = "all", hosts = 30 }, { per = "rack", hosts = 6 }]
failures = [{ per = "all", hosts = 2 }, { per = "rack", hosts = 4, action = "stop" }]
"""


class Fleet:
    """Hosts, a release and a rollout in a folder; what is started ends with it."""

    def __init__(self, folder, hosts):
        """Makes it of pairs of a name and labels."""
        self.folder = folder
        self.names = [name for name, _ in hosts]
        self.processes = []
        played = folder / "hosts"
        played.mkdir()
        (played / "names").write_text(json.dumps(self.names))
        for number in range(len(hosts)):
            (played / str(number)).touch()
        self.environment = os.environ | {"FIRMCAST_PAGE_HOSTS": str(played)}
        self.environment.pop("FIRMCAST_FLEET_STORE", None)
        self.firmcast("key", "new", "--role", "release", "--out", "release.key")
        self.firmcast("--state", "fleet", "key", "new", "--role", "manager")
        (folder / "image").write_bytes(os.urandom(65536))
        self.firmcast(
            "bundle", "create", "--image", "image", "--version", "2.1", "--security-version", "7",
            "--vendor", "ACME", "--product", "S1", "--key", "release.key", "--out", "bundle",
        )
        self.import_hosts(hosts)
        self.fleet("release", "add", "bundle")
        (folder / "winter.toml").write_text(ROLLOUT)
        self.fleet("rollout", "create", "winter.toml")

    def import_hosts(self, hosts):
        with (self.folder / "hosts.csv").open("w", newline="") as file:
            table = csv.writer(file)
            labels = list(hosts[0][1])
            table.writerow(["name", "key", "addresses", "vendor", "product", "version", *labels])
            for number, (name, values) in enumerate(hosts):
                self.firmcast("key", "new", "--role", "host", "--out", f"h{number}.key")
                key = (self.folder / f"h{number}.pub").read_text().strip()
                address = f"192.0.2.{number + 1}:7070"
                table.writerow([name, key, address, "ACME", "S1", "1.9", *values.values()])
        self.fleet("hosts", "import", "hosts.csv")

    def firmcast(self, *arguments):
        return self.call([TARGET / "firmcast", *arguments])

    def fleet(self, *arguments):
        return self.call([TARGET / "firmcast-fleet", "--state", "fleet", *arguments])

    def call(self, command):
        subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, stdout=subprocess.DEVNULL
        )

    def start(self, *arguments):
        command = [TARGET / "firmcast-fleet", "--state", "fleet", *arguments]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        return process.stdout.readline()

    def work(self, site):
        self.start("work", "--site", site, "--name", f"worker-{site}", "--firmcast", HERE / "firmcast")

    def web(self):
        """Starts the page, and returns its address."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        return self.start("web", "--listen", f"127.0.0.1:{port}").split()[-1].rstrip("/")

    def play(self, name, *lines):
        """Lets a host do something."""
        with (self.folder / "hosts" / str(self.names.index(name))).open("a") as file:
            file.write("".join(line + "\n" for line in lines))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        until = time.monotonic() + 20
        for process in self.processes:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
