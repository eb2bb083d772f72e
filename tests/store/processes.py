"""Programs in processes of their own: many at once, and killed at a random moment."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What each printed; all must end well."""
    printed = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, printed, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in printed]


def kill_while_it_works(program: str, *arguments: object, rounds: int, longest: float) -> list[list[str]]:
    """Starts a program `rounds` times and kills it with SIGKILL at a random moment after it has printed its first line.

    Returns:
        The whole lines that each printed, which it must flush.
    """
    printed = []
    moments = random.Random(0)
    for _ in range(rounds):
        process = start(program, *arguments)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(moments.uniform(0, longest))
        process.send_signal(signal.SIGKILL)
        rest, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        printed.append([line for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")])
    return printed
