"""Kills a command, or fails a call of it, at the n-th call that changes a file below a directory.

`kill_points.c` is compiled and loaded into the command with LD_PRELOAD, so that every library's calls are reached
(Python's, SQLite's, safetensors') and the package itself needs no hooks. Calls are write, pwrite, writev, sendfile,
copy_file_range, fsync, fdatasync, ftruncate, rename (also exchanging), link, unlink, mkdir, rmdir, chmod, chown,
utimensat, and open where it makes or empties a file; those of all processes of the command are counted together.

    points = KillPoints(shim, directory)              # shim: `compile_shim(somewhere)`
    calls = points.run(command).calls                 # how many points there are
    points.run(command, at=17, action="torn")         # SIGKILL after half of the 17th call's bytes
    points.run(command, at=17, action=f"errno:{errno.ENOSPC}")  # the 17th call fails: disk full
    points.run(command, at=17, action="full")         # all from it on that take space

`Forks` does the same with functions, in children of a process that has imported them: milliseconds instead of seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Whom = Literal["process", "group"]
COMPILER = shutil.which(os.environ.get("CC", "cc"))


def compile_shim(directory: Path) -> Path:
    """The shared library, in `directory`, without a space in its name; needs a C compiler (`COMPILER` is None)."""
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
class Point:
    """Where to strike.

    Attributes:
        at: the call, from 1; None to count only.
        action: before, torn or after (SIGKILL); errno:N or torn-errno:N (the call fails); full, dead (all from it on).
        whom: only the process that makes the call, or all of the command's processes.
    """

    at: int | None = None
    action: str = "before"
    whom: Whom = "process"

    @contextmanager
    def counting(self, under: Path) -> Iterator[tuple[dict[str, str], Path]]:
        """What tells the shim of it, and the file in which calls below `under` are counted."""
        with tempfile.NamedTemporaryFile(prefix="kill-points-") as counter:
            counter.write(bytes(8))
            counter.flush()
            variables = {
                "KILL_POINTS_UNDER": os.path.realpath(under),
                "KILL_POINTS_COUNTER": counter.name,
                "KILL_POINTS_AT": str(self.at or 0),
                "KILL_POINTS_ACTION": self.action,
                "KILL_POINTS_WHOM": self.whom,
            }
            yield variables, Path(counter.name)


COUNT_ONLY = Point()


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
        environment: Mapping[str, str] | None = None,
        timeout: float = 600,
    ) -> Outcome:
        """Runs a command in a process group of its own.

        Args:
            command: program and arguments.
            at, action, whom: see `Point`.
            environment: further variables.
            timeout: seconds until the group is killed and `subprocess.TimeoutExpired` raised.
        """
        with Point(at, action, whom).counting(self.under) as (variables, counter):
            process = subprocess.Popen(
                list(map(str, command)),
                env={**os.environ, **(environment or {}), **variables, "LD_PRELOAD": str(self.shim)},
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
            return Outcome(process.returncode, _count(counter), stdout, stderr)


class Forks:
    """Runs functions in forked children of one process that has imported them; see `kill_forks.py`.

    Use as a context manager.

    Args:
        shim: from `compile_shim`.
        modules: what the process imports before the first run.
    """

    def __init__(self, shim: Path, *modules: str) -> None:
        self._shim = shim
        self._modules = modules

    def __enter__(self) -> Self:
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # no threads: forks
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.kill_forks", str(self._shim), *self._modules],
            env={**os.environ, **single, "LD_PRELOAD": str(self._shim)},
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate()

    def run(
        self,
        under: Path,
        function: str,
        *arguments: str | Path | int,
        point: Point = COUNT_ONLY,
        environment: Mapping[str, str] | None = None,
        timeout: int = 600,
    ) -> Outcome:
        """Calls a function in a child of its own process group, and waits until all of the group have ended.

        Args:
            under: calls below this directory are counted.
            function: `module:name`, or `module:name.method`.
            arguments: for it; paths as text.
            point: where to strike.
            environment: further variables.
            timeout: seconds until the group is killed and `subprocess.TimeoutExpired` raised.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory(prefix="forks-") as said, point.counting(under) as (variables, counter):
            request = {
                "function": function,
                "arguments": [one if isinstance(one, int) else str(one) for one in arguments],
                "environment": {**(environment or {}), **variables},
                "said": said,
                "timeout": timeout,
            }
            print(json.dumps(request), file=self._server.stdin, flush=True)
            answer = self._server.stdout.readline()
            assert answer, "the process that forks has ended"
            returncode = json.loads(answer)
            if returncode is None:
                raise subprocess.TimeoutExpired(function, timeout)
            stdout, stderr = (Path(said, name).read_text(errors="replace") for name in ("stdout", "stderr"))
            return Outcome(returncode, _count(counter), stdout, stderr)


def _count(counter: Path) -> int:
    return int.from_bytes(counter.read_bytes(), "little")
