"""The environment variables, all in one table."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "MODEL_FORENSICS_"


class Variable(NamedTuple):
    """One environment variable.

    Attributes:
        key: the key of the configuration that it sets, whose type and limits hold for it; None: it sets none.
        meaning: one sentence.
        secret: its value reaches no log line, result, report or error.
    """

    name: str
    key: str | None
    meaning: str
    secret: bool = False


CONFIG = f"{PREFIX}CONFIG"
ENCRYPTION_KEY = f"{PREFIX}ENCRYPTION_KEY"
MAX_MEMORY = f"{PREFIX}MAX_MEMORY"

VARIABLES = {
    one.name: one
    for one in (
        Variable(CONFIG, None, "The configuration file of commands that are given no `--config`."),
        Variable(f"{PREFIX}DEVICE", "device", "Where models run."),
        Variable(f"{PREFIX}LOG_LEVEL", "log_level", "Log lines of this level and above are written."),
        Variable(f"{PREFIX}OUTPUT_DIR", "output_dir", "Where results go."),
        Variable(f"{PREFIX}BUNDLE_DIR", "bundle_dir", "Where bundles are looked for."),
        Variable(f"{PREFIX}CACHE_ENABLED", "cache.enabled", "`true` or `false`: use the cache."),
        Variable(f"{PREFIX}CACHE_SIZE", "cache.size", "What the cache may take on disk, such as `10GB`."),
        Variable(f"{PREFIX}STREAMING_ENABLED", "streaming.enabled", "`true` or `false`: read every bundle in parts."),
        Variable(
            MAX_MEMORY,
            "streaming.max_memory",
            "Bundles that would take more are streamed; what one batch of a fix-set search is planned to take "
            "beside the model. Read in Python too, where the configuration does not state it.",
        ),
        Variable(
            ENCRYPTION_KEY,
            None,
            "32 bytes in base64: bundles, results and cache are written encrypted, and read where they are.",
            secret=True,
        ),
        Variable(
            f"{PREFIX}OLD_ENCRYPTION_KEY",
            None,
            "For `rekey`: the key before this one, in base64, or `none`.",
            secret=True,
        ),
        Variable(f"{PREFIX}AUDIT_LOG", "audit_log", "The file that records who did what on which digests."),
        Variable(f"{PREFIX}THREADS", None, "Threads that one call into the compiled core may use. Read in Python too."),
        Variable(
            f"{PREFIX}ISA",
            None,
            "`portable`, `avx2` or `avx512`: the compiled core uses at most these instructions; results are the same "
            "bits. Read in Python too.",
        ),
    )
}
_AT_INSTALLATION = {f"{PREFIX}CORE", f"{PREFIX}CUDA"}  # what is built; CONTRIBUTING.md


def stated(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of the table that are set and not empty, with their values."""
    return {name: environment[name] for name in VARIABLES if environment.get(name, "").strip()}


def secrets(environment: Mapping[str, str]) -> list[str]:
    """The values that must not be shown."""
    return [value for name, value in stated(environment).items() if VARIABLES[name].secret]


def secrets_of_process() -> list[str]:
    """The secrets in this process's environment now."""
    return secrets(os.environ)


def unknown(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Variables that look like ours and are none, each with the name that was probably meant."""
    names = [n for n in environment if n.startswith(PREFIX) and n not in VARIABLES and n not in _AT_INSTALLATION]
    known = {name.removeprefix(PREFIX): name for name in VARIABLES}
    close = {name: difflib.get_close_matches(name.removeprefix(PREFIX), list(known), n=1) for name in names}
    return {name: known[found[0]] if found else None for name, found in close.items()}
