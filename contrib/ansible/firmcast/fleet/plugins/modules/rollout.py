#!/usr/bin/python
# Copyright (c) 2026 the firmcast developers
# Apache-2.0 OR MIT

DOCUMENTATION = r"""
module: rollout
short_description: Creates, starts, pauses and aborts rollouts of firmware
version_added: 0.1.0
author:
  - the firmcast developers (!UNKNOWN)
description:
  - Brings a rollout of a firmcast fleet into a state, by the program C(firmcast-fleet) on the machine that the task runs on.
  - A rollout is frozen when it is created. What is created is just the plan that was made a moment before, by its digest.
  - A task that runs again changes nothing. A rollout that was created from another text than the file has now is an error.
attributes:
  check_mode:
    description: The plan is made, and nothing is created, started, paused or aborted.
    support: full
  diff_mode:
    description: Shows the plan of a rollout that is created, and the change of its state.
    support: full
requirements:
  - firmcast-fleet
  - python >= 3.6
options:
  state:
    description:
      - V(present) creates the rollout and starts nothing.
      - V(started) creates and starts it. A paused one stays paused, and the task fails, unless O(resume) is set.
      - V(paused) lets no further host begin.
      - V(aborted) ends it. What was aborted cannot be started again.
    type: str
    choices: [present, started, paused, aborted]
    default: started
  file:
    description: The rollout's file, see firmcast-rollout(5); for O(state=present) and O(state=started).
    type: path
  name:
    description: The rollout's name, for O(state=paused) and O(state=aborted).
    type: str
  resume:
    description: Let a paused rollout go on with O(state=started). Its limits of failures then count anew.
    type: bool
    default: false
  because:
    description: Why it is paused or aborted, for those who look at it later.
    type: str
    default: by Ansible
  program:
    description: The program.
    type: str
    default: firmcast-fleet
  state_directory:
    description: The directory of the store that is a file.
    type: path
  store:
    description: The PostgreSQL database of a store, instead of a file, for example C(postgres://fleet@localhost/fleet).
    type: str
"""

EXAMPLES = r"""
- name: Look at the plan (with --check --diff), then create and start just that
  firmcast.fleet.rollout:
    file: /etc/firmcast-fleet/winter.toml
    state: started

- name: Let no further host begin
  firmcast.fleet.rollout:
    name: winter
    state: paused
    because: maintenance of the network
"""

RETURN = r"""
rollout:
  description: The rollout with its waves, as C(firmcast-fleet rollout show --json) writes it. In check mode one that is not there yet is missing.
  returned: when there is one
  type: dict
plan:
  description: The digest of the plan that was created or would be.
  returned: when a rollout is created
  type: str
hosts:
  description: How many hosts it touches.
  returned: when a rollout is created
  type: int
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.firmcast.fleet.plugins.module_utils.program import command, environment

# States of a rollout in which there is nothing to do.
STARTED = ("scheduled", "running", "finished")


class Fleet:
    """The program, on one store."""

    def __init__(self, module):
        self.module = module
        self.words = command(module.params["program"], module.params["state_directory"])
        self.environment = environment(module.params["store"])

    def says(self, *words):
        """Returns what the program writes; its errors end the task."""
        status, said, wrong = self.module.run_command(self.words + list(words), environ_update=self.environment)
        if status != 0:
            self.module.fail_json(msg=wrong.strip() or f"{self.words[0]} ended with status {status}")
        return said

    def rollout(self, **fields):
        """Returns the rollout that has these, or nothing."""
        listed = (json.loads(line) for line in self.says("rollout", "list", "--json").splitlines())
        return next((rollout for rollout in listed if all(rollout[field] == fields[field] for field in fields)), None)


class Task:
    """What is done, or would be."""

    def __init__(self, module, fleet):
        self.module = module
        self.fleet = fleet
        self.result = {"changed": False}
        self.before = self.after = ""

    def change(self, name, *words):
        """Has the program do something, unless the task only asks what would be done."""
        self.result["changed"] = True
        if not self.module.check_mode:
            self.fleet.says("rollout", *(words + ("--", name)))

    def becomes(self, before, after):
        """Notes a change of state for those who want to see the difference."""
        self.before += f"state: {before}\n"
        self.after += f"state: {after}\n"

    def create(self):
        """Creates the rollout of the file, if there is none of its name. Returns its name and state."""
        path = self.module.params["file"]
        # What was created needs no plan, and there may be none any more: of a version that two releases have, for example.
        known = self.fleet.rollout(file=self.text(path))
        if known:
            return known["name"], known["state"]
        plan = json.loads(self.fleet.says("rollout", "plan", "--json", "--", path))
        name = plan["name"]
        if self.fleet.rollout(name=name):
            wrong = f"rollout {name} was created from another text than {path} has now, and stays as it is"
            self.module.fail_json(msg=f"{wrong}: give the new one another name")
        touched = sum(len(wave["hosts"]) for wave in plan["waves"])
        if touched == 0:
            self.module.fail_json(msg=f"rollout {name} would touch no host, so nothing is created: see firmcast-fleet rollout plan {path}")
        self.result.update(plan=plan["digest"], hosts=touched)
        self.becomes("absent", "ready")
        if self.module._diff:
            self.after += self.fleet.says("rollout", "plan", "--", path)
        self.change(path, "create", "--plan", plan["digest"])
        return name, "ready"

    def text(self, path):
        """Returns the text of the file, or nothing where it cannot be read: the program says why not."""
        try:
            with open(path, encoding="utf-8", newline="") as file:
                return file.read()
        except (OSError, UnicodeDecodeError):
            return None

    def start(self, name, state):
        """Starts what was created, or lets it go on."""
        if state == "ready":
            self.becomes("ready", "scheduled")
            self.change(name, "start")
        elif state == "paused" and self.module.params["resume"]:
            self.becomes("paused", "running")
            self.change(name, "resume")
        elif state not in STARTED:
            # The program says why not, and what to do.
            self.fleet.says("rollout", "start", "--", name)

    def end(self, name, word, state, done):
        """Pauses or aborts what has not ended."""
        known = self.fleet.rollout(name=name)
        if not known:
            self.module.fail_json(msg=f"there is no rollout {name}: firmcast-fleet rollout list shows those there are")
        if known["state"] != state and not (known["state"] in done and word == "abort"):
            self.becomes(known["state"], state)
            self.change(name, word, "--because=" + self.module.params["because"])

    def run(self):
        """Brings the rollout into the state that was asked for."""
        wanted, name = self.module.params["state"], self.module.params["name"]
        if wanted in ("present", "started"):
            name, state = self.create()
            if wanted == "started":
                self.start(name, state)
        elif wanted == "paused":
            self.end(name, "pause", "paused", ())
        else:
            self.end(name, "abort", "error", ("finished",))
        if self.fleet.rollout(name=name):
            self.result["rollout"] = json.loads(self.fleet.says("rollout", "show", "--json", "--", name))
        if self.module._diff:
            self.result["diff"] = {"before": self.before, "after": self.after}
        self.module.exit_json(**self.result)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", choices=["present", "started", "paused", "aborted"], default="started"),
            file=dict(type="path"),
            name=dict(type="str"),
            resume=dict(type="bool", default=False),
            because=dict(type="str", default="by Ansible"),
            program=dict(type="str", default="firmcast-fleet"),
            state_directory=dict(type="path"),
            store=dict(type="str", no_log=True),
        ),
        required_if=[("state", "present", ["file"]), ("state", "started", ["file"]), ("state", "paused", ["name"]), ("state", "aborted", ["name"])],
        mutually_exclusive=[("file", "name")],
        supports_check_mode=True,
    )
    Task(module, Fleet(module)).run()


if __name__ == "__main__":
    main()
