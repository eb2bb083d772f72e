"""Forensics of many bundles for a ranking: one after the other, or in several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model_forensics import ops
from model_forensics.bundle import load_bundle
from model_forensics.errors import BackendUnavailable, InputRefused
from model_forensics.logs import LOGGER, timed
from model_forensics.pipeline import streaming
from model_forensics.pipeline.environment import summarise_recording
from model_forensics.pipeline.signatures import signature_of
from model_forensics.processes import one_thread_each, processors
from model_forensics.types import TriageEntry, TriageGroup

if TYPE_CHECKING:
    from model_forensics.cf import Baseline
    from model_forensics.config import Config
    from model_forensics.types import ForensicsResult

SortBy = Literal["anomaly", "size", "date"]

BUNDLES_A_WORKER = 64  # a process takes about a second to start; fewer bundles than these would be done meanwhile
BUNDLES_A_MESSAGE = 4

_in_this_process: Callable[[Path], TriageEntry] | None = None


def suitable_workers(bundles: int) -> int:
    """Processes that are worth starting for so many bundles, at most one for each processor."""
    return max(1, min(processors(), bundles // BUNDLES_A_WORKER))


def rank(
    paths: Sequence[Path],
    baseline: Baseline | None,
    config: Config,
    workers: int,
    sort_by: SortBy,
    progress: Callable[[str, int, int], None],
) -> list[TriageEntry]:
    """Entries of all paths, the most urgent first, with the numbers of their groups; refused ones last."""
    entries: list[TriageEntry] = []
    progress("triage", 0, len(paths))
    with timed("triage"):
        for entry in triage_bundles(paths, baseline, config, workers):
            entries.append(entry)
            progress("triage", len(entries), len(paths))
    return numbered(sorted(entries, key=lambda entry: _urgency(entry, sort_by)))


def triage_bundles(
    paths: Sequence[Path], baseline: Baseline | None, config: Config, workers: int
) -> Iterator[TriageEntry]:
    """The entry of each path, in their order; the same whatever the number of workers.

    Processes are spawned, not forked: this one may run threads that hold locks. They get the baseline once, and
    calibrate it themselves: a fraction of a second, at the same time. They share the memory ceiling evenly.
    """
    if workers == 1:
        yield from (triage_bundle(path, baseline, config) for path in paths)
        return
    context = get_context("spawn")
    config = config.model_copy(update={"streaming": config.streaming.shared_by(workers)})
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(baseline, config)) as pool:
        with one_thread_each():
            entries = pool.map(_triage_here, paths, chunksize=BUNDLES_A_MESSAGE)  # starts the processes
        yield from entries


def triage_bundle(path: Path, baseline: Baseline | None, config: Config) -> TriageEntry:
    """One bundle; where it is refused, an entry with the error."""
    try:
        recording = load_bundle(path)
        found = streaming.analyze(
            recording,
            baseline,
            config.modules.cf,
            config.streaming,
            windows=False,
            warn=lambda text: LOGGER.warning("%s: %s", path, text),
        )
    except InputRefused as error:  # of another model than the baseline's too: the others can still be ranked
        return TriageEntry(
            path=str(path), bundle_id=None, created_at=None, bytes=None, samples=None, anomaly_score=None,
            p_value=None, strongest=None, onset=None, anomalous_sites=None, error=str(error),
        )  # fmt: skip
    summary = summarise_recording(recording)
    ranked = ranking(found)
    return TriageEntry(
        path=str(path),
        bundle_id=recording.bundle_id,
        created_at=recording.created_at,
        bytes=summary.bytes,
        samples=summary.samples,
        anomaly_score=found.anomaly_score,
        p_value=found.p_value,
        strongest=found.strongest.site if found.strongest else (ranked[0] if ranked else None),
        onset=found.onset.site if found.onset else None,
        anomalous_sites=sum(metric.is_anomalous for metric in found.metrics),
        signature=signature_of(found.metrics, found.onset),
    )


def numbered(entries: Sequence[TriageEntry]) -> list[TriageEntry]:
    """Ranked entries with the numbers of their groups: those with one signature, counted from 1 as they come."""
    numbers: dict[str | None, int] = {}
    return [
        entry
        if entry.error is not None
        else entry.model_copy(update={"group": numbers.setdefault(entry.signature, len(numbers) + 1)})
        for entry in entries
    ]


def groups_of(entries: Iterable[TriageEntry]) -> list[TriageGroup]:
    """The groups of numbered entries, in the order of their first ones."""
    members: dict[int, list[TriageEntry]] = {}
    for entry in entries:
        if entry.group is not None:
            members.setdefault(entry.group, []).append(entry)
    return [_group(number, listed) for number, listed in members.items()]


def _group(number: int, members: Sequence[TriageEntry]) -> TriageGroup:
    scores = [entry.anomaly_score for entry in members if entry.anomaly_score is not None]
    return TriageGroup(
        number=number,
        signature=members[0].signature,
        count=len(members),
        representative=members[0].path,
        anomaly_score=(min(scores), max(scores)) if scores else None,
    )


def ranking(forensics: ForensicsResult) -> list[str]:
    """Judged sites, the most suspicious first; ties by execution order."""
    judged = [metric for metric in forensics.metrics if metric.rank_score is not None]
    return [metric.site for metric in sorted(judged, key=lambda metric: -(metric.rank_score or 0.0))]


def _urgency(entry: TriageEntry, sort_by: SortBy) -> tuple[bool, bool, float]:
    """Least for what comes first: before those without a value, and those that were refused."""
    value: float | None
    if sort_by == "anomaly":
        value = entry.anomaly_score
    elif sort_by == "size":
        value = entry.bytes
    else:
        value = entry.created_at.timestamp() if entry.created_at else None
    return (entry.error is not None, value is None, -(value or 0.0))


def _start_worker(baseline: Baseline | None, config: Config) -> None:
    global _in_this_process  # noqa: PLW0603  (what a worker needs is sent to it once, not with each bundle)
    with suppress(BackendUnavailable):  # without the compiled core every operation runs on one thread anyway
        ops.set_threads(1)
    _in_this_process = partial(triage_bundle, baseline=baseline, config=config)


def _triage_here(path: Path) -> TriageEntry:
    assert _in_this_process is not None, "the worker was started by _start_worker"
    return _in_this_process(path)
