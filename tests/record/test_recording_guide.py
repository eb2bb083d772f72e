"""The guide's code runs, in its order, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the hf extra is not installed")
GUIDE = Path(__file__).parents[2] / "docs" / "recording.md"


def test_the_recording_guide_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    printed = capsys.readouterr().out
    assert "(3, 16)" in printed
    assert "[(6, 3), (8, 5)]" in printed
    bundles = {path.name for path in (tmp_path / "bundles").iterdir()}
    assert bundles == {"inc-001", "inc-002", "inc-003", "inc-004", "benign-001"}
