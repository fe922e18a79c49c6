"""A fleet with hosts at two sites and rollouts in every state; then schemathesis asks its API: main.py [EXAMPLES]."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "page"))

from fleet import ROLLOUT, TARGET, Fleet  # noqa: E402

# Requests for each operation and kind of data, unless the command line says so.
EXAMPLES = 50
# The examples are the same each time.
SEED = 16
# Rollouts that may be created: each once.
CREATED_MAX = 20
# Seconds that the played hosts may take on a busy machine.
PATIENCE_S = 120
STAGES = ["instructing", "preflight", "receiving", "flashing", "rebooting", "measuring"]


def hosts():
    named = [(f"r{n}", ("riga", f"r{n % 2}")) for n in range(8)] + [(f"o{n}", ("oslo", "o1")) for n in range(4)]
    named.append(('<img src=x> "ä\u202e"', ("oslo", "o 2")))
    return [(name, dict(zip(("site", "rack"), place))) for name, place in named]


def says(fleet, *words, text=None):
    """What the program writes."""
    command = [TARGET / "firmcast-fleet", "--state", "fleet", *words]
    done = subprocess.run(command, cwd=fleet.folder, env=fleet.environment, check=True, capture_output=True, input=text, text=True)
    return done.stdout


def shown(fleet, name):
    return json.loads(says(fleet, "rollout", "show", name, "--json"))


def wait(fleet, what, is_so):
    until = time.monotonic() + PATIENCE_S
    while not is_so(now := shown(fleet, "winter")):
        assert time.monotonic() < until, (what, now)
        time.sleep(0.2)


def attempts(now, state):
    return sum(wave["attempts"][state] for wave in now["waves"])


def fill(fleet):
    """Rollouts that are ready, scheduled, paused, in error; attempts that are in flight, confirmed, failed and skipped."""
    approval = '[[wave]]\nname = "rest"\nrest = true\napproval = "person"'
    for name in ("spring", "summer", "autumn"):
        text = ROLLOUT.replace('"winter"', f'"{name}"').replace('[[wave]]\nname = "rest"\nrest = true', approval)
        (fleet.folder / f"{name}.toml").write_text(text)
        fleet.fleet("rollout", "create", f"{name}.toml")
    fleet.fleet("rollout", "start", "winter")
    for site in ("riga", "oslo"):
        fleet.work(site)
    wait(fleet, "the first wave", lambda now: attempts(now, "in-flight") >= 6)
    for name in fleet.names[:6]:
        fleet.play(name, *STAGES, "confirmed")
    wait(fleet, "confirmed hosts", lambda now: attempts(now, "confirmed") >= 3)
    for name in fleet.names[6:11]:
        fleet.play(name, *STAGES[:4], "failed write-failed mixed block 0x3f000 keeps old bytes")
    wait(fleet, "failures", lambda now: now["rollout"]["state"] == "paused")
    for process in fleet.processes:
        process.kill()
    fleet.fleet("rollout", "start", "summer")
    fleet.fleet("rollout", "abort", "autumn", "--because", "<b>no</b>")


def token(fleet):
    says(fleet, "people", "add", "anna", text="correct horse battery\n")
    return says(fleet, "people", "token", "anna", "test", "--may", "act").strip()


def planned(fleet):
    """Rollouts that can be created as they are: the file, and the digest of its plan."""
    for number in range(CREATED_MAX):
        text = ROLLOUT.replace('"winter"', f'"made {number}"')
        (fleet.folder / "made.toml").write_text(text)
        yield {"file": text, "plan": json.loads(says(fleet, "rollout", "plan", "made.toml", "--json"))["digest"]}


def main():
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES
    with tempfile.TemporaryDirectory() as folder, Fleet(pathlib.Path(folder), hosts()) as fleet:
        fill(fleet)
        bearer = token(fleet)
        url = fleet.web()
        environment = os.environ | {
            "API_TOKEN": bearer, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1",
            "API_ROLLOUTS": json.dumps(list(planned(fleet))),
        }
        words = ["--config-file", HERE / "schemathesis.toml", "run", f"{url}/api/openapi.json", "--url", url, "--checks", "all"]
        words += ["--seed", str(SEED), "--max-examples", str(examples), "--continue-on-failure", "--workers", "1"]
        program = pathlib.Path(sys.executable).with_name("schemathesis")
        status = subprocess.run([program, *words], cwd=folder, env=environment).returncode
        page = fleet.processes[-1]
        assert page.poll() is None, "the page is not there any more"
    sys.exit(status)


main()
