"""Watch over the server's processes: end when one dies or is halted."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from clip_client.errors import Unavailable
from clip_serve.crashes import Crashed, fault, fault_of

_STILL_S, _LEAST_CPU_S, _LOOK_S = 60.0, 0.5, 5.0  # a start reads, compiles and imports; idle threads take some hundredths
POLL_S = 0.2
_SERVER = "tritonserver"
_STUB = "triton_python_backend_stub"
_ENDING_S = 5  # patience with the threads of a server that was killed
_FROZEN_S = 3  # patience with a halted process, e.g. for a debugger's short stop


class Watch:
    """Polls the server and its Python processes: Triton 24.10 itself stays "ready" when one is gone."""

    def __init__(self, server: subprocess.Popen[bytes], instances: int, explanation: str) -> None:
        """Find the Python processes of a server that is ready; raise Unavailable if one of them has ended already."""
        self._server, self._explanation = server, explanation
        self._members = {psutil.Process(server.pid): _SERVER, **_stubs(server, instances)}
        self._leaving: set[psutil.Process] = set()  # of models that are unloaded
        self._standing: dict[psutil.Process, float] = {}

    def trouble(self) -> str:
        """Return the reason that the server can't answer; empty for none."""
        return ", ".join(f"the process of {self._members[process]} stands still" for process in self._standing)

    def run(self) -> None:
        """Poll until one ends or is halted; then raise Unavailable, Crashed after a fault of its own."""
        while True:
            self._look_at_server()
            for process, name in list(self._members.items()):
                if process in self._members:  # not forgotten meanwhile
                    self._look_at(process, name)
            time.sleep(POLL_S)

    def processes(self) -> dict[psutil.Process, str]:
        """Return the server and its Python processes, with their names."""
        return self._members

    def find(self) -> None:
        """Take in the Python processes of models that were loaded since."""
        there = _stubs(self._server, None)
        self._leaving &= there.keys()
        self._members = self._members | {process: name for process, name in there.items() if process not in self._leaving}

    def forget(self, model: str) -> None:
        """Let the processes of a model end, which is about to be unloaded."""
        gone = {process for process, name in self._members.items() if name == model}
        self._leaving |= gone
        self._members = {process: name for process, name in self._members.items() if process not in gone}

    def memory(self, models: Iterable[str]) -> int:
        """Return the bytes of the processes of these models; what they share is counted once."""
        names, size = set(models), 0
        for process, name in self._members.items():
            with contextlib.suppress(psutil.Error):
                size += process.memory_full_info().pss if name in names else 0
        return size

    def _look_at_server(self) -> None:
        if self._server.poll() is not None and (signal := fault(-self._server.returncode)):
            raise Crashed(f"tritonserver crashed ({signal})")
        check_running(self._server, f"ended by itself: {self._explanation}")

    def _look_at(self, process: psutil.Process, name: str) -> None:
        status = _status(process)
        if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            if name == _SERVER:  # its threads end later than itself, and only then it tells how
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._server.wait(_ENDING_S)
            self._look_at_server()
            if signal := fault_of(process):
                raise Crashed(f"the Python process of {name} crashed ({signal})")
            raise Unavailable(f"the Python process of {name} died: stopping, so that a restart can mend it")
        if status not in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
            self._standing.pop(process, None)
        elif time.monotonic() - self._standing.setdefault(process, time.monotonic()) > _FROZEN_S:
            raise Unavailable(f"the process of {name} was halted {_FROZEN_S} s ago: stopping, so that a restart can mend it")


class Start:
    """Watch over a start: Triton waits for minutes for a Python process that is lost, or for ever for a lock."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self._server, self._cpu_s = server, 0.0
        self._moved = self._looked = time.monotonic()

    def check(self) -> None:
        """Raise Crashed if the server and all that it started have done next to nothing for a minute."""
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return
        self._looked, cpu_s = now, 0.0
        for process in family(self._server):
            with contextlib.suppress(psutil.Error):
                cpu_s += sum(process.cpu_times()[:2])
        if abs(cpu_s - self._cpu_s) >= _LEAST_CPU_S:  # less where a process has ended
            self._cpu_s, self._moved = cpu_s, now
        elif now - self._moved > _STILL_S:
            raise Crashed(f"tritonserver has stood still for {_STILL_S:g} s at its start")


def check_running(server: subprocess.Popen[bytes], otherwise: str) -> None:
    """Raise Unavailable if the server has ended; Crashed if a fault ended it, which starting again may mend."""
    if server.poll() is not None:
        if name := fault(-server.returncode):
            raise Crashed(f"tritonserver {otherwise} ({name})")
        raise Unavailable(f"tritonserver {otherwise} (exit status {server.returncode})")


def family(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the server and everything in its session, orphans too."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == server.pid:
                members.append(process)
    return members


def end_at_once(server: subprocess.Popen[bytes]) -> None:
    """Kill the server and everything that it started."""
    members = family(server)
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(members, timeout=1)
    server.wait()


def _stubs(server: subprocess.Popen[bytes], expected: int | None) -> dict[psutil.Process, str]:
    """Return the Python processes, each with the model that its command names: <model>/<version>/<file>."""
    children = [
        child for child in psutil.Process(server.pid).children(recursive=True) if _status(child) != psutil.STATUS_ZOMBIE
    ]
    with contextlib.suppress(psutil.Error):  # one that dies right now
        commands = {child: command for child in children if (command := child.cmdline())}  # it is empty once one has ended
        stubs = {child: Path(command[1]).parents[1].name for child, command in commands.items() if command[0].endswith(_STUB)}
        if expected in (None, len(stubs)):
            return stubs
    raise Unavailable(f"a Python process of the server died as it started (of {expected}): start it again")


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_DEAD)
