"""Kills a command, or fails a call of it, at the n-th call that changes a file below a directory.

`kill_points.c` is compiled and loaded into the command with LD_PRELOAD, so that every library's calls are reached
(Python's, SQLite's, safetensors') and the package itself needs no hooks. Calls are write, pwrite, writev, fsync,
fdatasync, ftruncate, rename (also exchanging), link, unlink, mkdir and rmdir; those of all processes of the command are
counted together.

    points = KillPoints(shim, directory)              # shim: `compile_shim(somewhere)`
    calls = points.run(command).calls                 # how many points there are
    points.run(command, at=17, action="torn")         # SIGKILL after half of the 17th call's bytes
    points.run(command, at=17, action=f"errno:{errno.ENOSPC}")  # the 17th call fails: disk full
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Whom = Literal["process", "group"]
COMPILER = shutil.which(os.environ.get("CC", "cc"))


def compile_shim(directory: Path) -> Path:
    """The shared library, in `directory`; needs a C compiler (`COMPILER` is None without one)."""
    assert COMPILER is not None, "no C compiler: set CC"
    shim = directory / "kill_points.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return shim


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and how many counted calls it made until then."""

    returncode: int
    calls: int
    stdout: str
    stderr: str

    @property
    def killed(self) -> bool:
        return self.returncode == -signal.SIGKILL


@dataclass(frozen=True)
class KillPoints:
    """Runs commands whose calls below `under` are counted.

    Attributes:
        shim: from `compile_shim`.
        under: the directory; it need not exist yet.
    """

    shim: Path
    under: Path

    def run(
        self,
        command: Sequence[str | Path],
        *,
        at: int | None = None,
        action: str = "before",
        whom: Whom = "process",
        environment: dict[str, str] | None = None,
        timeout: float = 600,
    ) -> Outcome:
        """Runs a command in a process group of its own.

        Args:
            command: program and arguments.
            at: the call, from 1; None to count only.
            action: before, torn or after (SIGKILL); errno:N or torn-errno:N (the call fails).
            whom: only the process that makes the call, or all of the command's processes.
            environment: further variables.
            timeout: seconds until the group is killed and `subprocess.TimeoutExpired` raised.
        """
        with tempfile.NamedTemporaryFile(prefix="kill-points-") as counter:
            counter.write(bytes(8))
            counter.flush()
            chosen = {} if at is None else {"KILL_POINTS_AT": str(at)}
            variables = {
                **os.environ,
                **(environment or {}),
                **chosen,
                "LD_PRELOAD": str(self.shim),
                "KILL_POINTS_UNDER": os.path.realpath(self.under),
                "KILL_POINTS_COUNTER": counter.name,
                "KILL_POINTS_ACTION": action,
                "KILL_POINTS_WHOM": whom,
            }
            process = subprocess.Popen(
                list(map(str, command)),
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                raise
            calls = int.from_bytes(Path(counter.name).read_bytes(), "little")
        return Outcome(process.returncode, calls, stdout, stderr)
