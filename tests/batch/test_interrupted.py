"""Ctrl-C at every moment at which a batch changes the disk: `resume` loses nothing and does nothing twice."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from functools import partial
from types import SimpleNamespace

import pytest

from model_forensics.batch import workers
from tests.batch.kills import DONE, INCIDENTS, ToyBatch
from tests.batch.toy import check_results, make_bundles, run_toy
from tests.interrupts import each_moment, interrupted, interruptible


@pytest.fixture
def toy(tmp_path, monkeypatch) -> ToyBatch:
    """Its worker is forked and not started, which takes a tenth of the time."""
    monkeypatch.setattr(workers, "get_context", lambda _: multiprocessing.get_context("fork"))
    make_bundles(tmp_path / "bundles", **INCIDENTS)
    return ToyBatch(tmp_path)


def run(toy: ToyBatch, **options: bool) -> None:
    run_toy(toy.bundles, toy.output, toy.log, **options)


def clear(toy: ToyBatch) -> None:
    shutil.rmtree(toy.output, ignore_errors=True)
    toy.log.unlink(missing_ok=True)


def test_a_new_batch(toy):
    seen = set()

    def prepare(_: int):
        clear(toy)
        return partial(interrupted, partial(run, toy))

    def check(_: int) -> None:
        assert not multiprocessing.active_children()
        toy.check_between()
        done, analysed = toy.done(), toy.analysed()
        seen.add(frozenset(done))
        run(toy, resume=True)
        toy.check_after(done, analysed)

    assert each_moment(prepare, check) >= 60
    assert len(seen) == len(DONE) + 1  # from none of them to all


def test_a_batch_that_replaces_another(toy, tmp_path):
    """`force` forgets what is there before it removes it: what is there is never taken for the new batch's."""
    run(toy)
    shutil.copytree(toy.output, tmp_path / "before")

    def prepare(_: int):
        clear(toy)
        shutil.copytree(tmp_path / "before", toy.output)
        return partial(interrupted, partial(run, toy, force=True))

    def check(_: int) -> None:
        done, analysed = toy.done(), toy.analysed()
        run(toy, resume=True)
        check_results(toy.bundles, toy.output)
        assert toy.done() == DONE
        for name in DONE:
            assert toy.analysed()[name] == analysed[name] + (name not in done)

    assert each_moment(prepare, check) >= 60


@pytest.mark.parametrize("starts", [1, 2])
def test_a_worker_that_is_just_started_is_ended(toy, monkeypatch, starts):
    context, started = multiprocessing.get_context("fork"), []

    class Starting(context.Process):
        def start(self) -> None:
            super().start()
            started.append(self)
            if len(started) == starts:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(workers, "get_context", lambda _: SimpleNamespace(Pipe=context.Pipe, Process=Starting))
    with interruptible():
        assert interrupted(lambda: run_toy(toy.bundles, toy.output, toy.log, 2))
    assert len(started) == starts
    assert not multiprocessing.active_children()
