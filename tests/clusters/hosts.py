"""Hosts that are hosts, on one machine: network namespaces on a switch, each with an address and a name of its own.

They share the machine's files, as hosts share a file system. Needs root and the tools `ip`, `tc` and `nft`.
"""

import contextlib
import pathlib
import shutil
import subprocess
from collections.abc import Sequence

NETWORK = "10.77.0"
SWITCH = "stochconv-switch"  # a namespace that holds a bridge
ETC = pathlib.Path("/etc/netns")  # what lies in a namespace's folder here takes the place of files in /etc


def run(*words) -> str:
    """What a command printed; it must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr or done.stdout}"
    return done.stdout


class Hosts:
    """Hosts n1, n2, ... with the addresses 10.77.0.1, 10.77.0.2, ... Close it, or use it as a context."""

    def __init__(self, count: int):
        self.names = [f"n{number}" for number in range(1, count + 1)]
        self._close()  # what a killed test has left
        run("ip", "netns", "add", SWITCH)
        run("ip", "-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", SWITCH, "link", "set", "bridge", "up")
        for name in self.names:
            self._connect(name)

    def __enter__(self) -> "Hosts":
        return self

    def __exit__(self, *_) -> None:
        self._close()

    def address(self, name: str) -> str:
        return f"{NETWORK}.{name.removeprefix('n')}"

    def command(self, name: str, *words) -> list[str]:
        """The command that runs `words` on host `name`."""
        named = f'hostname {name} && exec "$@"'
        return ["ip", "netns", "exec", _space(name), "unshare", "--uts", "sh", "-c", named, "sh", *map(str, words)]

    def run(self, name: str, *words) -> str:
        """What a command on a host printed; it must succeed."""
        return run(*self.command(name, *words))

    def agent(self, file: pathlib.Path) -> pathlib.Path:
        """A program in place of ssh: `agent HOST COMMAND...` runs a shell's command on a host."""
        file.write_text(
            "#!/bin/sh\n"
            'while [ "${1#-}" != "$1" ]; do shift; done\n'
            "host=$1; shift\n"
            f'exec ip netns exec {_space("$host")} unshare --uts sh -c "hostname $host; $*"\n'
        )
        file.chmod(0o755)
        return file

    def cut(self, name: str) -> None:
        """Pulls the host's cable out at the switch."""
        run("ip", "-n", SWITCH, "link", "set", name, "down")

    def mend(self, name: str) -> None:
        """Plugs it in again."""
        run("ip", "-n", SWITCH, "link", "set", name, "up")

    def disturb(self, name: str, *, rate: str, latency: str, loss: int) -> None:
        """Lets the host send at most at `rate`, in a queue of up to `latency`, and lose `loss` % of what
        comes. A queue and a filter do that, for not every kernel has `tc netem`.
        """
        queue = ("tbf", "rate", rate, "burst", "16kb", "latency", latency)
        run("tc", "-n", _space(name), "qdisc", "replace", "dev", "eth0", "root", *queue)
        chain = "add table inet loss; add chain inet loss input { type filter hook input priority 0; }"
        rule = f"add rule inet loss input iifname eth0 numgen random mod 100 < {loss} drop"
        run("ip", "netns", "exec", _space(name), "nft", f"{chain}; {rule}")

    def processes(self, name: str) -> list[int]:
        """The numbers of all processes on a host."""
        return [int(pid) for pid in run("ip", "netns", "pids", _space(name)).split()]

    def _connect(self, name: str) -> None:
        space = _space(name)
        run("ip", "netns", "add", space)
        run("ip", "-n", SWITCH, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "-n", SWITCH, "link", "set", name, "master", "bridge", "up")
        run("ip", "-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("ip", "-n", space, "link", "set", device, "up")
        (ETC / space).mkdir(parents=True, exist_ok=True)
        lines = ["127.0.0.1 localhost", *(f"{self.address(other)} {other}" for other in self.names)]
        (ETC / space / "hosts").write_text("\n".join(lines) + "\n")

    def _close(self) -> None:
        for space in [*_existing(), *(path.name for path in ETC.glob("stochconv-*"))]:
            with contextlib.suppress(AssertionError):
                run("ip", "netns", "del", space)
            shutil.rmtree(ETC / space, ignore_errors=True)


def _space(name: str) -> str:
    return f"stochconv-{name}"


def _existing() -> Sequence[str]:
    lines = run("ip", "netns", "list").splitlines()
    return [line.split()[0] for line in lines if line.startswith("stochconv-")]
