# Copyright (c) 2026 the firmcast developers
# Apache-2.0 OR MIT

DOCUMENTATION = r"""
name: hosts
short_description: Hosts of a firmcast fleet
version_added: 0.1.0
author:
  - the firmcast developers (!UNKNOWN)
description:
  - Reads the hosts of a fleet from C(firmcast-fleet hosts export), which must be on the machine that runs Ansible.
  - Each host has the variables C(ansible_host) and C(firmcast_key), C(firmcast_addresses), C(firmcast_vendor),
    C(firmcast_product), C(firmcast_version), C(firmcast_agent), C(firmcast_security), C(firmcast_labels).
  - Its labels site, rack, power and role are variables of these names, too.
  - Values are data, however they look; no expression in a label is ever evaluated.
  - The inventory's file has a name that ends in C(firmcast.yml) or C(firmcast.yaml).
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [firmcast.fleet.hosts]
  program:
    description: The program C(firmcast-fleet).
    type: str
    default: firmcast-fleet
  state_directory:
    description: The directory of the store that is a file.
    type: path
    env:
      - name: FIRMCAST_FLEET_STATE
  store:
    description: The PostgreSQL database of a store, instead of a file, for example C(postgres://fleet@localhost/fleet).
    type: str
    env:
      - name: FIRMCAST_FLEET_STORE
  selector:
    description: Only hosts for which this holds, for example C(site=riga role!=lab). Field names and labels are those of a rollout's file.
    type: str
    default: all
  group_labels:
    description:
      - Labels that make groups, each named by label and value, for example C(site_riga).
      - What a group's name cannot have becomes an underscore, so two values that differ only there share a group.
    type: list
    elements: str
    default: [site, rack, power, role]
"""

EXAMPLES = r"""
# fleet.firmcast.yml: all but the lab, with groups such as site_riga, role_db and floor_2
plugin: firmcast.fleet.hosts
selector: role!=lab
group_labels: [site, role, floor]
"""

import json
import os
import subprocess

from ansible.errors import AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.firmcast.fleet.plugins.module_utils.program import command, environment

LABELS = ("site", "rack", "power", "role")
# Seconds that the program may take.
PATIENCE_S = 120


def data(value):
    """Returns a value of which Ansible evaluates nothing. Plain text stays plain, so that ansible-inventory shows it as it is."""
    if isinstance(value, dict):
        return {data(name): data(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [data(inner) for inner in value]
    is_template = isinstance(value, str) and ("{" in value or value.startswith("#jinja2:"))
    return wrap_var(value) if is_template else value


class InventoryModule(BaseInventoryPlugin):
    NAME = "firmcast.fleet.hosts"

    def verify_file(self, path):
        """Takes only files that are meant for this plugin."""
        return super().verify_file(path) and path.endswith(("firmcast.yml", "firmcast.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        for name, variables in sorted(self._export().items()):
            self._add(name, variables)

    def _export(self):
        """Returns the variables of each host."""
        words = command(self.get_option("program"), self.get_option("state_directory"))
        words += ["hosts", "export", "--format", "ansible", "--", self.get_option("selector")]
        surroundings = dict(os.environ, **environment(self.get_option("store")))
        try:
            done = subprocess.run(words, capture_output=True, check=False, env=surroundings, stdin=subprocess.DEVNULL, timeout=PATIENCE_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise AnsibleParserError(f"cannot run {words[0]}: {to_text(error)}; install firmcast-fleet, or set program") from error
        if done.returncode != 0:
            raise AnsibleParserError(to_text(done.stderr).strip() or f"{words[0]} ended with status {done.returncode}")
        return json.loads(done.stdout)["all"]["hosts"]

    def _add(self, name, variables):
        self.inventory.add_host(name)
        labels = variables.get("firmcast_labels", {})
        # Labels have any text: it is never a template, and no label takes the place of a variable of Ansible's.
        values = dict(variables, **{label: labels[label] for label in LABELS if label in labels})
        for variable, value in values.items():
            self.inventory.set_variable(name, variable, data(value))
        for label in self.get_option("group_labels"):
            if labels.get(label):
                group = to_safe_group_name(f"{label}_{labels[label]}", force=True, silent=True)
                self.inventory.add_child(self.inventory.add_group(group), name)
