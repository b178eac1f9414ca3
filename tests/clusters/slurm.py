"""A SLURM cluster for tests: munge, a slurmctld and a slurmd on each host, with all their files in one folder."""

import os
import pathlib
import secrets
import subprocess
import time

from tests.clusters.hosts import Hosts

CONF = """
ClusterName=tests
SlurmctldHost={first}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdTimeout=10
KillWait=30
ReturnToService=2
{nodes}
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeAddr={address} NodeHostname={name} CPUs=2 State=UNKNOWN"


class Slurm:
    """The cluster of `hosts`, whose files lie in `folder`. Close it, or use it as a context."""

    def __init__(self, hosts: Hosts, folder: pathlib.Path):
        self.hosts, self.folder, self._daemons = hosts, folder, {}
        for name in ("state", *(f"spool.{host}" for host in hosts.names)):
            (folder / name).mkdir()
        nodes = "\n".join(NODE.format(name=name, address=hosts.address(name)) for name in hosts.names)
        first = hosts.names[0]
        settings = {"first": first, "address": hosts.address(first), "folder": folder, "nodes": nodes}
        (folder / "slurm.conf").write_text(CONF.format(**settings))
        # Of control groups, which a container may not have, nothing is used.
        (folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={folder}\n")
        self.environ = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> "Slurm":
        try:
            self._start_munge()
            self._start("slurmctld", self.hosts.names[0], "slurmctld", "-D", "-i")
            for name in self.hosts.names:
                self.start_node(name)
            self.wait_for_nodes("idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for name in self.hosts.names:
            for pid in self.hosts.processes(name):
                subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()

    def start_node(self, name: str) -> None:
        """As where a machine gets its power back."""
        self.hosts.mend(name)
        self._start(name, name, "slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """As where a machine loses its power: all that runs there is gone at once, and says nothing more."""
        self.hosts.cut(name)
        for pid in self.hosts.processes(name):
            subprocess.run(["kill", "-KILL", str(pid)], check=False, capture_output=True)
        self._daemons.pop(name).wait()

    def wait_for_nodes(self, state: str, seconds: float = 60) -> None:
        """Until every node is in that state."""
        self._wait(lambda: {*self.ask("sinfo", "-h", "-N", "-o", "%t").split()} == {state}, f"nodes {state}", seconds)

    def ask(self, *words) -> str:
        """What a command of SLURM prints on the first host."""
        command = self.hosts.command(self.hosts.names[0], *words)
        done = subprocess.run(command, capture_output=True, text=True, env=self.environ, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr or done.stdout}"
        return done.stdout

    def submit(self, *words, environ=None) -> str:
        """The number of a job; `words` as for sbatch."""
        exported = [f"{name}={value}" for name, value in (environ or {}).items()]
        command = ["sbatch", "--parsable", f"--output={self.folder}/%A.log"]
        return self.ask("env", *exported, *command, *words).strip()

    def log(self, job: str) -> str:
        """What all starts of the job, or of all tasks of an array, have printed."""
        file = self.folder / f"{job}.log"
        return file.read_text() if file.exists() else ""

    def state(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says, by name."""
        words = self.ask("scontrol", "show", "job", "-o", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: str, *states: str, seconds: float = 240) -> dict[str, str]:
        """Until the job is in one of `states`; what is then known of it."""
        self._wait(lambda: self.state(job)["JobState"] in states, f"job {job} in {states}", seconds)
        return self.state(job)

    def wait_for_next_turn(self, job: str) -> None:
        """Until a job is requeued. It starts soon, not after two minutes as by itself, and has time."""
        self.wait(job, "PENDING")
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now+5", "TimeLimit=10")

    def _wait(self, condition, what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}\n{self._logs()}"
            time.sleep(0.2)

    def _logs(self) -> str:
        logs = [self.folder / "slurmctld.log", *self.folder.glob("*.log")]
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in dict.fromkeys(logs) if log.exists())

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        self.folder.chmod(0o755)
        files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
        places = [f"--{option}={self.folder / name}" for option, name in files.items()]
        with (self.folder / "munged.log").open("w") as log:
            command = ["munged", "--foreground", "--force", f"--key-file={key}", *places]
            self._daemons["munged"] = subprocess.Popen(command, stdout=log, stderr=log)

    def _start(self, what: str, host: str, *words) -> None:
        with (self.folder / f"{what}.output.log").open("a") as log:
            command = self.hosts.command(host, *words)
            self._daemons[what] = subprocess.Popen(command, stdout=log, stderr=log, env=self.environ)
