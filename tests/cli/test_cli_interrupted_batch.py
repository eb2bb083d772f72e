"""Ctrl-C at every moment of `batch`, whose incidents take no time here: `--resume` finishes, nothing twice."""

from __future__ import annotations

import multiprocessing
import shutil

from model_forensics.batch import Job, workers
from model_forensics.pipeline.commission import Commission
from tests.batch.kills import ToyBatch
from tests.batch.toy import Toy, check_results, make_bundles


def test_batch(each_moment, run, tmp_path, monkeypatch):
    toy = ToyBatch(tmp_path)
    make_bundles(toy.bundles, a="done", b="done", c="benign")
    job = Job(Toy(toy.log), {"option": "one"}, workers=1, workers_reason="for a test")
    monkeypatch.setattr(Commission, "prepare", lambda *_: job)
    monkeypatch.setattr(workers, "get_context", lambda _: multiprocessing.get_context("fork"))  # starts in no time
    arguments = ["batch", toy.bundles, "--output", toy.output]

    def prepare(_: int) -> list:
        shutil.rmtree(toy.output, ignore_errors=True)
        toy.log.unlink(missing_ok=True)
        return arguments

    def check(_: int) -> None:
        done, analysed = toy.done(), toy.analysed()
        again = run(*arguments, "--resume")
        assert again.exit_code == 0, again.output
        check_results(toy.bundles, toy.output)
        assert {name: toy.analysed()[name] for name in done} == {name: analysed[name] for name in done}

    assert each_moment(prepare, check) >= 40
