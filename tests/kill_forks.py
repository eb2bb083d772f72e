"""The process behind `kill_points.Forks`: for each line on standard input it forks a child that calls a function.

A child is the leader of its own group. An answer, its return code or null after a timeout, is written when the whole
group has ended, also the processes that a killed child left behind.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from functools import reduce
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    shim = ctypes.CDLL(sys.argv[1])
    for module in sys.argv[2:]:
        importlib.import_module(module)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # orphans become children of this process
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _child(request, shim)
        print(json.dumps(_ended(child, request["timeout"])), flush=True)


def _child(request: dict[str, Any], shim: ctypes.CDLL) -> None:
    """Calls the function; 0, 1 after an exception, or the code that it exits with."""
    os.setsid()
    code = 1
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(Path(request["said"], name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.update(request["environment"])
    module, name = request["function"].split(":")
    try:
        function = reduce(getattr, name.split("."), importlib.import_module(module))
        shim.kill_points_prepare()
        function(*request["arguments"])  # type: ignore[operator]
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as problem:  # noqa: BLE001  (the child's last words)
        traceback.print_exc()
        print(f"ended by {type(problem).__module__}.{type(problem).__qualname__}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(child: int, timeout: int) -> int | None:
    late = False

    def end(*_: object) -> None:
        nonlocal late
        late = True
        os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    signal.alarm(timeout)
    _, status = os.waitpid(child, 0)
    try:
        while True:
            os.waitpid(-child, 0)
    except ChildProcessError:
        signal.alarm(0)
    return None if late else os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
