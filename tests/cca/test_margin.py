"""Sets that restore the samples of the search and not the held-out ones: what is searched then, and what is said."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from model_forensics.cca import fix_sets
from model_forensics.cca.choice import Healthy
from model_forensics.cca.executor import CaseOutcome, SetOutcome
from model_forensics.cca.experiment import Design
from model_forensics.cca.prepare import prepare
from model_forensics.cca.restoration import output_restored
from model_forensics.cca.search import Found, Hit
from model_forensics.cca.shortlist import Shortlisted
from model_forensics.config import CausalConfig
from model_forensics.types import CopyCheck


def outcome(*, recovery: float, residual: float) -> SetOutcome:
    return SetOutcome((0,), (CaseOutcome(-1.0, "fixed", recovery, residual),), (1.0,))


@pytest.mark.parametrize(
    ("recovery", "residual", "plain", "margin"),
    [(1.0, 0.0, True, True), (0.92, 0.0, True, False), (1.0, 0.05, True, False), (0.97, 0.03, True, True),
     (0.89, 0.0, False, False), (1.0, 0.11, False, False)],
)  # fmt: skip
def test_a_margin_is_a_part_of_what_may_be_missing(recovery, residual, plain, margin):
    one = outcome(recovery=recovery, residual=residual)
    assert (output_restored(one), output_restored(one, margin=True)) == (plain, margin)


def test_flips_have_a_margin_too(plant):
    planted = plant(1, "mlp")
    prepared = prepare(planted.broken, planted.incident, config=CausalConfig(), healthy=Healthy(planted.benign))
    design = Design.of(prepared, CausalConfig(), (), 0)
    laboratory = design.laboratory(design.pool()[0], planted.benign)
    fixed, failed = (CaseOutcome(score, said, 1.0, 0.0) for score, said in ((-1.0, "fixed"), (1.0, "failed")))
    most = SetOutcome((0,), (*[fixed] * 10, failed), (1.0,) * 11)
    assert laboratory.sufficient(most)
    assert not laboratory.sufficient(most, margin=True), "10 of 11 may be fewer than 80 % of others"
    every = SetOutcome((0,), (fixed,) * 11, (1.0,) * 11)
    assert laboratory.sufficient(every, margin=True)


def test_a_set_whose_other_members_restore_is_no_copy_of_what_lies_before_it(plant, monkeypatch):
    planted = plant(1, "mlp")
    prepared = prepare(planted.broken, planted.incident, config=CausalConfig(), healthy=Healthy(planted.benign))
    design = Design.of(prepared, CausalConfig(), (), 0)
    pool, _ = design.pool()
    laboratory = design.laboratory(pool, planted.benign)
    patches = [str(one.intervention) for one in pool]
    first, last = patches.index("patch L1.mlp"), patches.index("patch L2.mlp")
    copied = CopyCheck(checks=24, copied=24, upstream_flip_rate=1.0, upstream_restores=True)
    whole, *alone = laboratory.executor.score_many([(first, last), (first,), (last,)], laboratory.cases)
    monkeypatch.setattr(type(laboratory), "restores", lambda self, outcome, margin=False: last in outcome.members)
    assert laboratory._label(whole, copied, alone) == "answer_copied", "without the last member it does not restore"
    monkeypatch.setattr(type(laboratory), "restores", lambda self, outcome, margin=False: first in outcome.members)
    assert laboratory._label(whole, copied, alone) == "cause"
    assert laboratory._label(alone[0], copied, [laboratory.executor.score((), laboratory.cases)]) == "answer_copied"


CAUSE = (SimpleNamespace(label="cause"), (), (), None)
WORKAROUND = (SimpleNamespace(label="workaround"), (), (), None)


@pytest.fixture
def searched(monkeypatch):
    """Runs the search and its repetition, told what each finds and what the held-out samples say of it."""

    def run(*, restoring: bool, judged, timed_out: bool = False):
        margins, deadlines = [], []
        executor = SimpleNamespace(deadline=None)

        def search(laboratory, estimated, refuted):
            margin = bool(refuted)
            assert refuted in ((), {(0,)})
            margins.append(margin)
            deadlines.append(laboratory.executor.deadline)
            hits = [Hit(outcome(recovery=1.0, residual=0.0), "cardinality", 1)] if restoring else []
            return Shortlisted(Found(hits, [], None, timed_out), candidates=2 if margin else 1)

        design = SimpleNamespace(search=search, config=SimpleNamespace(max_alternatives=3))
        monkeypatch.setattr(fix_sets, "_judge", lambda laboratory, found, limit: judged[found.candidates - 1])
        found, said = fix_sets._searched(design, SimpleNamespace(executor=executor), None, 5.0)
        run.warnings = found.warnings
        assert set(deadlines) == {5.0}
        assert executor.deadline is None, "the evidence is taken whatever the clock says"
        return margins, found.candidates, said

    return run


def test_a_set_that_holds_up_is_taken(searched):
    assert searched(restoring=True, judged=[CAUSE]) == ([False], 1, CAUSE)


def test_where_none_holds_up_those_with_a_margin_are_searched_and_it_is_said(searched):
    assert searched(restoring=True, judged=[WORKAROUND, CAUSE]) == ([False, True], 2, CAUSE)
    (warning,) = searched.warnings
    assert "(sets: 1) is no cause by the held-out ones" in warning


def test_where_none_of_these_holds_up_either_the_first_search_stands(searched):
    assert searched(restoring=True, judged=[WORKAROUND, WORKAROUND]) == ([False, True], 1, WORKAROUND)


def test_where_nothing_restored_or_time_ran_out_nothing_is_searched_again(searched):
    assert searched(restoring=False, judged=[WORKAROUND]) == ([False], 1, WORKAROUND)
    assert searched(restoring=True, judged=[WORKAROUND], timed_out=True) == ([False], 1, WORKAROUND)
