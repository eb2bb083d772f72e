"""Triage in processes: what they are told, and how many there are."""

from __future__ import annotations

import copy

import pytest

from model_forensics import errors
from model_forensics.errors import BundleDigestError, ModelForensicsError, UsageError
from model_forensics.pipeline import RCAPipeline
from model_forensics.pipeline.triage import BUNDLES_A_WORKER, suitable_workers


def test_processes_are_started_only_where_they_pay() -> None:
    assert suitable_workers(0) == 1
    assert suitable_workers(2 * BUNDLES_A_WORKER - 1) == 1
    many = suitable_workers(1_000_000)
    assert 1 <= suitable_workers(2 * BUNDLES_A_WORKER) <= min(2, many)


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ModelForensicsError)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_cross_between_processes(kind: type[ModelForensicsError]) -> None:
    error = kind("what", where="where", cure="cure")
    again = copy.copy(error)  # as pickling does it
    assert type(again) is kind
    assert (str(again), again.what, again.where, again.cure) == (str(error), "what", "where", "cure")
    assert copy.copy(BundleDigestError("what", cure="cure")).where is None


def test_no_workers_are_refused(tmp_path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").touch()
    with pytest.raises(UsageError, match="workers is 0"):
        RCAPipeline().triage(tmp_path, workers=0)
