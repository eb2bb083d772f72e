"""The self-test: each check by itself, so that one broken thing does not hide another."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_forensics import ops
from model_forensics.config import Config
from model_forensics.errors import ModelForensicsError
from model_forensics.selftest.analysis import analyse_demo
from model_forensics.selftest.operations import CASES, REFERENCE, agrees
from model_forensics.types import Frozen

Status = Literal["ok", "broken", "skipped"]
LITTLE_SPACE = 1 << 30
_AVAILABLE = "available"


class Check(Frozen):
    """One thing that was tried."""

    name: str
    status: Status
    detail: str
    cure: str | None = None  # what to do about it, where it is broken
    seconds: float


class SelfTest(Frozen):
    """Everything that was tried; `works` unless something is broken."""

    works: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Outcome:
    """What a check found."""

    status: Status
    detail: str
    cure: str | None = None


def self_test(
    config: Config, *, model: str | None = None, model_factory: str | None = None, told: Callable[[Check], None]
) -> SelfTest:
    """Tries every part of this installation that can be tried here.

    Args:
        model: a directory or hub id that should load; None leaves that out.
        told: called with each check as soon as it is done.
    """
    checks = []
    for name, check in _checks(config, model, model_factory):
        started = time.perf_counter()
        try:
            outcome = check()
        except ModelForensicsError as error:
            outcome = Outcome(
                "broken", error.what if error.where is None else f"{error.where}: {error.what}", error.cure
            )
        made = Check(
            name=name,
            status=outcome.status,
            detail=outcome.detail,
            cure=outcome.cure,
            seconds=time.perf_counter() - started,
        )
        checks.append(made)
        told(made)
    return SelfTest(works=all(check.status != "broken" for check in checks), checks=tuple(checks))


def _checks(
    config: Config, model: str | None, model_factory: str | None
) -> Iterator[tuple[str, Callable[[], Outcome]]]:
    states = ops.backends()
    for backend in sorted({name for of_one in states.values() for name in of_one if name != REFERENCE}):
        yield f"backend {backend}", lambda backend=backend: _backend(backend, states)  # type: ignore[misc]
    for key, place in _places(config):
        yield f"writing {key}", lambda place=place: _writable(place)  # type: ignore[misc]
    yield "model", lambda: _model(config, model, model_factory)
    yield "analysis", lambda: _analysis(config)


def _backend(backend: str, states: dict[str, dict[str, str]]) -> Outcome:
    serving = [operation for operation, of_one in states.items() if of_one.get(backend) == _AVAILABLE]
    if not serving:
        reasons = {of_one[backend] for of_one in states.values() if backend in of_one}
        of_the_whole = [reason for reason in reasons if "this version has no" not in reason]
        return Outcome("skipped", min(of_the_whole or reasons))
    wrong = []
    for operation in serving:
        try:
            if not agrees(operation, backend):
                wrong.append(f"{operation} differs from the reference")
        except (RuntimeError, ValueError, TypeError, OSError) as error:  # whatever compiled code raises is the finding
            wrong.append(f"{operation}: {type(error).__name__}: {error}")
    if wrong:
        cure = "Do not trust results of this machine; install the package again, and report this if it stays"
        return Outcome("broken", "; ".join(wrong), cure)
    assert CASES.keys() == states.keys(), "every operation has a case"
    return Outcome("ok", f"{len(serving)} of {len(states)} operations equal the reference bit for bit")


def _places(config: Config) -> list[tuple[str, Path]]:
    """Where the configuration has things written, by its keys."""
    places = [("output_dir", config.output_dir)]
    if config.cache.enabled and config.cache.directory is not None:
        places.append(("cache.directory", config.cache.directory))
    for key, file in (("log_file", config.log_file), ("audit_log", config.audit_log)):
        if file is not None:
            places.append((key, file.absolute().parent))
    return places


def _writable(place: Path) -> Outcome:
    """A file is really written, in the directory or where it would be made; nothing is left behind."""
    place = place.absolute()
    there = place
    while not there.exists():
        there = there.parent
    cure = "Change its permissions, or name another place in the configuration"
    if not there.is_dir():
        return Outcome("broken", f"{there} is not a directory", cure)
    try:
        with tempfile.TemporaryFile(dir=there) as stream:
            stream.write(b"model-forensics test")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return Outcome("broken", f"{there}: {error.strerror}", cure)
    free = shutil.disk_usage(there).free
    if free < LITTLE_SPACE:
        return Outcome("broken", f"{there}: {free / 2**20:,.0f} MiB are free", "Free some space: results need it")
    return Outcome("ok", f"{place}{'' if there == place else ' (will be made)'}")


def _model(config: Config, model: str | None, model_factory: str | None) -> Outcome:
    if model is None and model_factory is None:
        return Outcome("skipped", "no model is named; --model names one")
    from model_forensics.pipeline import sources  # noqa: PLC0415  (torch loads late)

    opened = sources.open_model(model, factory=model_factory, config=config)
    reference = opened.reference
    layers = "unknown layers" if reference.layers is None else f"{reference.layers} layers"
    return Outcome("ok", f"{reference.architecture}, {layers}, {len(opened.sites.taps)} sites, on {opened.device}")


def _analysis(config: Config) -> Outcome:
    found = analyse_demo(config)
    if found.wrong is not None:
        return Outcome("broken", found.wrong, "Install the package again, and report this if it stays")
    return Outcome("ok", found.told)
