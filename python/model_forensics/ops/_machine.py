"""What the compiled core runs on: threads and instruction sets.

numba and NumPy run every operation on the calling thread, so there is nothing to steer without the core.
"""

from __future__ import annotations

from types import ModuleType

from model_forensics.errors import BackendUnavailable
from model_forensics.ops import _check, _dispatch

MAX_THREADS = 1024


def threads() -> int:
    """Threads that one call into the compiled core may use, the caller's among them.

    At first the value of the environment variable MODEL_FORENSICS_THREADS, else the number of processors that this
    process may run on. Results do not depend on it.

    Raises:
        BackendUnavailable: the compiled core is not there.
    """
    return int(_core("threads").threads())


def set_threads(count: int) -> None:
    """Let calls into the compiled core use `count` threads, 1 to 1,024, from now on, in the whole process.

    Raises:
        UsageError: `count` is not as above.
        BackendUnavailable: the compiled core is not there.
    """
    count = _check.integer("set_threads", "count", count, 1, MAX_THREADS)
    _core("set_threads").set_threads(count)


def instruction_set() -> str:
    """The instructions that the compiled core uses: "portable", "avx2" or "avx512".

    The best that this machine has, or less if the environment variable MODEL_FORENSICS_ISA says so. Results do not
    depend on it.

    Raises:
        BackendUnavailable: the compiled core is not there.
    """
    return str(_core("instruction_set").isa())


def _core(where: str) -> ModuleType:
    module, reason = _dispatch._load("cpp")
    if module is None:
        raise BackendUnavailable(
            f"this is about the compiled core, which cannot serve: {reason}", where=where, cure=_dispatch._cure("cpp")
        )
    return module
