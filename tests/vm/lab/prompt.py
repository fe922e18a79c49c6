"""A prompt to walk about in a running lab."""

import cmd
import shlex
import subprocess

from .server import ServerFailed
from .shell import CommandFailed


class Prompt(cmd.Cmd):
    """Each `do_` method is a command; its docstring is the help."""

    prompt = "lab> "

    def __init__(self, lab):
        super().__init__()
        self._lab = lab
        self.intro = f"The lab runs in network namespace {lab.network.namespace}; files in {lab.folder}. `help` helps."

    def _server(self, name):
        for server in self._lab.servers:
            if server.name == name:
                return server
        raise ServerFailed(f"no server {name!r}: there are {', '.join(s.name for s in self._lab.servers)}")

    def onecmd(self, line):
        """Errors do not end the prompt, and power cycles are completed between commands."""
        try:
            for server in self._lab.servers:
                server.tend()
            return super().onecmd(line)
        except (ServerFailed, CommandFailed, ValueError, IndexError) as failure:
            print(failure)
            return False

    def emptyline(self):
        """An empty line does nothing."""

    def do_servers(self, _):
        """servers: what there is."""
        for server in self._lab.servers:
            power = "on" if server.running() else "off"
            print(f"{server.name}  {power}  {server.address}  console {server.console_file}")

    def do_sh(self, line):
        """sh SERVER COMMAND: runs a shell command in a server's light OS."""
        name, _, command = line.partition(" ")
        status, output = self._server(name).command(command)
        print(f"{output}(status {status})")

    def do_console(self, line):
        """console SERVER [LINES]: the end of a server's console."""
        words = line.split()
        count = int(words[1]) if len(words) > 1 else 40
        print("\n".join(self._server(words[0]).console().splitlines()[-count:]))

    def do_on(self, line):
        """on SERVER: power on."""
        self._server(line.strip()).start()

    def do_off(self, line):
        """off SERVER: pulls the plug."""
        self._server(line.strip()).power_cut()

    def do_loss(self, line):
        """loss TO_SERVERS [TO_MANAGER]: percent of UDP datagrams that get lost."""
        words = [float(word) for word in line.split()]
        self._lab.network.set_loss(words[0], words[1] if len(words) > 1 else 0)

    def do_firmcast(self, line):
        """firmcast ARGUMENTS: runs the manager with the lab's key and state."""
        words = shlex.split(line)
        manager = self._lab.manager
        subprocess.run(self._lab.network.inside(manager.program, *words[:1], *manager.credentials(), *words[1:]))

    def do_ns(self, line):
        """ns COMMAND: runs a command of this machine in the lab's network, for example `ns tcpdump -ni bridge0`."""
        subprocess.run(self._lab.network.inside(*shlex.split(line)))

    def do_quit(self, _):
        """quit: switches everything off."""
        return True

    def do_EOF(self, _):
        """End of file: quit."""
        print()
        return True
