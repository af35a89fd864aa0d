"""A Slurm cluster of two nodes on this machine: munged, slurmctld and two slurmd of its own, in a folder of its own."""

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("sbatch", "squeue", "scancel", "srun", "sinfo", "munged", "slurmctld", "slurmd")
NODES = ("one", "two")
# Slurm's own programs lie where only root's search path goes.
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
CONFIG = """
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(Exception):
    """No cluster can be started here; the message says why."""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def program(name: str) -> str:
    path = shutil.which(name, path=SEARCH_PATH)
    if path is None:
        raise Unavailable(f"needs Slurm and munge on this machine (no {name}; Debian: slurm-wlm munge)")
    return path


class Daemon:
    """A program that runs until it is ended, at the latest with this process."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.log = folder / f"{'.'.join([name, *arguments[-1:]])}.log".replace("/", "_")
        command = [program(name), *arguments]
        if shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        with open(self.log, "wb") as stream:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environment
            )

    def check(self) -> None:
        if self.process.poll() is not None:
            last = (self.log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise Unavailable(f"{self.log.name.removesuffix('.log')} ended at once: {last}")

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cgroup_conf() -> str:
    """Slurm looks for control groups even where nothing is asked of them, and does not start without."""
    shown = subprocess.run([program("slurmctld"), "-V"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", shown)
    if version and (int(version[1]), int(version[2])) >= (23, 2):
        return "CgroupPlugin=disabled\n"
    return "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/nonexistent\n"


@contextlib.contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Start a cluster and give the environment in which Slurm's commands speak to it.

    Raises:
        Unavailable: If it cannot be started.
    """
    for name in PROGRAMS:
        program(name)
    # A short path: those of sockets have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="slurm") as name, contextlib.ExitStack() as daemons:
        folder = Path(name)
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        port, *ports = free_ports(1 + len(NODES))
        nodes = ""
        for node, own in zip(NODES, ports, strict=True):
            (folder / f"spool.{node}").mkdir()
            nodes += f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={own} CPUs=4 RealMemory=8000\n"
        values = {"folder": folder, "port": port, "user": getpass.getuser(), "nodes": nodes}
        (folder / "slurm.conf").write_text(CONFIG.format(**values))
        (folder / "cgroup.conf").write_text(cgroup_conf())
        files = {"key": "key-file", "socket": "socket", "pid": "pid-file", "log": "log-file", "seed": "seed-file"}
        munge = [f"--{option}={folder}/munge.{end}" for end, option in files.items()]
        started = [start(daemons, folder, "munged", "--foreground", "--force", *munge)]
        wait_for((folder / "munge.socket").exists, started)
        started.append(start(daemons, folder, "slurmctld", "-D"))
        started += [start(daemons, folder, "slurmd", "-D", "-N", node) for node in NODES]
        environment = {**os.environ, "PATH": SEARCH_PATH, "SLURM_CONF": str(folder / "slurm.conf")}

        def slurm(*command: str) -> str:
            return subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stdout

        wait_for(lambda: slurm("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(NODES), started)
        try:
            yield environment
        finally:
            slurm("scancel", "--partition=all")
            with contextlib.suppress(Unavailable):
                wait_for(lambda: not slurm("squeue", "-h"), [])


def start(daemons: contextlib.ExitStack, folder: Path, *command: str) -> Daemon:
    daemon = Daemon(folder, *command)
    daemons.callback(daemon.end)
    return daemon


def wait_for(condition: Callable[[], bool], daemons: list[Daemon], timeout: float = 30.0) -> None:
    """Wait until ``condition()``, while the daemons run."""
    end = time.monotonic() + timeout
    while not condition():
        for daemon in daemons:
            daemon.check()
        if time.monotonic() > end:
            logs = "; ".join(f"{d.log.name}: {d.log.read_text(errors='replace').strip()[-200:]}" for d in daemons)
            raise Unavailable(f"Slurm did not get ready within {timeout:.0f} s ({logs})")
        time.sleep(0.1)
