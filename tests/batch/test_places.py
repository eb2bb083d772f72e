"""Names of results."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from model_forensics.batch.places import result_name

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60)
BYTES = st.binary(min_size=1, max_size=60).filter(lambda name: not set(b"/\0") & set(name)).map(os.fsdecode)
NAMES = st.one_of(TEXTS, BYTES).filter(lambda name: name not in (".", ".."))


def test_usual_names_stay():
    for name in ("inc-001", "2026-01-01 12.30", "Störung 7", "a" * 120):
        assert result_name(name) == name


def test_others_become_harmless():
    for name in ("a" * 250, "-rf", ".hidden", "a\nb", "\udcff", "a~b", "<b>", "\u202egnp.exe", "ä" * 120):
        changed = result_name(name)
        assert changed.isprintable()
        assert len(os.fsencode(f"{changed}.json")) < 255
        assert not changed.startswith((".", "-"))
        changed.encode("utf-8")


@given(st.lists(NAMES, min_size=2, max_size=8, unique=True))
def test_different_names_stay_different(names):
    assert len({result_name(name) for name in names}) == len(names)
    assert not any("/" in result_name(name) for name in names)
