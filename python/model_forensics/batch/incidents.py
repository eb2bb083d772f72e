"""Which bundles of a directory are still to be done. Those that are finished are not opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model_forensics.batch.ledger import Ledger, Stamp
from model_forensics.batch.places import result_name
from model_forensics.bundle import manifest_digest
from model_forensics.errors import BundleError, EncryptionError
from model_forensics.files import SEALED_SUFFIX

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Incident:
    """A bundle to analyse.

    Attributes:
        name: of its result.
        attempt: how many of its analyses ended before: with a result, since when it changed, or otherwise.
        deaths: workers that ended over this analysis so far.
    """

    name: str
    path: Path
    stamp: Stamp
    attempt: int = 0
    deaths: int = 0


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        waiting: in this order: new and changed bundles by name, then those that a kill interrupted, because one of
            them may have been the reason for it.
        suspects: bundles that a worker did not survive; done last and one at a time, so that no other is blamed.
        moved: bundles whose stamp changed and whose content did not.
        total: bundles in all.
    """

    waiting: list[Incident] = field(default_factory=list)
    suspects: list[Incident] = field(default_factory=list)
    moved: list[tuple[str, Stamp]] = field(default_factory=list)
    total: int = 0


def make_plan(directory: Path, bundles: Sequence[str], ledger: Ledger, *, retry: bool) -> Plan:
    """Which bundles are not finished according to the ledger, or changed since.

    Args:
        directory: where they are.
        bundles: their names.
        ledger: of the batch.
        retry: also bundles that were refused or poisoned.
    """
    plan = Plan(total=len(bundles))
    interrupted: list[Incident] = []
    finished = ledger.finished()  # hundreds of thousands: no Path and no row is made for these
    for bundle in bundles:
        name, stamp = result_name(bundle), stamp_of(f"{directory}/{bundle}")
        if (name, *stamp) in finished:
            continue
        path, row = directory / bundle, ledger.row(name)
        if row is None:
            plan.waiting.append(Incident(name, path, stamp))
        elif row.state == "running":
            begun = Incident(name, path, stamp, row.attempt, row.deaths)
            (plan.suspects if row.deaths else interrupted).append(begun)
        elif row.state in ("refused", "poisoned"):
            if retry or row.stamp != stamp:
                plan.waiting.append(Incident(name, path, stamp, row.attempt + 1))
        elif row.digest is not None and _digest(path) == row.digest:
            plan.moved.append((name, stamp))
        else:
            plan.waiting.append(Incident(name, path, stamp, row.attempt + 1))
    plan.waiting += interrupted
    return plan


def stamp_of(path: Path | str) -> Stamp:
    """Of a bundle's manifest, plain or encrypted; empty where there is none."""
    place = f"{path}/{MANIFEST}"
    for file in (place, place + SEALED_SUFFIX):
        try:
            status = os.lstat(file)
        except OSError:
            continue
        return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)
    return Stamp(None, None, None)


def _digest(path: Path) -> str | None:
    """The content's; None for a broken bundle, whose analysis will say what is wrong."""
    try:
        return manifest_digest(path)
    except (BundleError, EncryptionError):
        return None
