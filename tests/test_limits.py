"""What ci/limits/damage.py and ci/limits/hostile.py hold with clocks and in full, smaller and without them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from model_forensics.bundle import load_bundle
from model_forensics.errors import InputRefused

sys.path.insert(0, str(Path(__file__).parents[1] / "ci" / "limits"))

SUBJECTS = (
    "bundle, plain", "bundle, plain, without digests", "bundle, compressed", "bundle, compressed, without digests",
    "bundle, encrypted", "bundle, encrypted, without digests", "baseline", "results file",
)  # fmt: skip


def test_no_damage_is_taken_for_something_else(tmp_path: Path) -> None:
    import damage

    subjects = damage.subjects(tmp_path)
    assert tuple(subject.name for subject in subjects) == SUBJECTS
    for subject in subjects:
        row = damage.damage(subject, 5)
        assert row["cases"] == sum(row[outcome] for outcome in damage.OUTCOMES) > 0
        assert row["wrong"] + row["crashes"] + row["hangs"] == 0, row
        assert row["named_errors"] > row["cases"] / 2, row
        if subject.name.startswith("bundle, encrypted"):
            assert row["named_errors"] == row["cases"], row


@pytest.mark.parametrize("outcome", ["crashes", "hangs", "wrong", "other_valid", "correct"])
def test_what_goes_wrong_is_seen(tmp_path: Path, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import damage

    monkeypatch.setattr(damage, "HANGS_AFTER", 0.3)
    (tmp_path / "file").write_bytes(b"x")

    def read(path: Path) -> str:
        if path.read_bytes() != b"x":
            if outcome == "crashes":
                os.kill(os.getpid(), signal.SIGKILL)
            if outcome == "hangs":
                time.sleep(3600)
        return "right" if outcome == "correct" else str(path.read_bytes())

    undetectable = ("file",) if outcome == "other_valid" else ()
    row = damage.damage(damage.Subject("s", tmp_path / "file", read, undetectable), 10)
    assert row["cases"] == row[outcome] == 4
    assert (tmp_path / "file").read_bytes() == b"x"
    assert damage.held(row) == (outcome in ("correct", "other_valid"))


def test_every_hostile_bundle_is_refused(tmp_path: Path) -> None:
    import hostile

    for golden, cases in (("golden", hostile.PLAIN | hostile.WITHIN_LIMITS), ("golden-arithmetic", hostile.CODED)):
        for number, (name, make) in enumerate(cases.items()):
            bundle = Path(shutil.copytree(hostile.GOLDEN / golden, tmp_path / golden / str(number)))
            load_bundle(bundle)
            make(bundle)
            with pytest.raises(InputRefused) as caught:
                load_bundle(bundle)
            assert caught.value.cure, name
