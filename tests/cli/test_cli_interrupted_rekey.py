"""Ctrl-C at every moment of `rekey`: each item opens, whole, with the old or the new key, and the next run finishes."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path

import pytest

from model_forensics.bundle import load_bundle
from model_forensics.cf import Baseline
from model_forensics.errors import EncryptionKeyError, ResultsError
from model_forensics.files import (
    KEY_VARIABLE,
    OLD_KEY_VARIABLE,
    EncryptionKey,
    _exchange,
    read_protected,
    write_protected,
)
from model_forensics.rekey import Keys, rekey_directory
from model_forensics.report import REPORT_ROLE, RESULTS_ROLE
from tests.kills.bundles import KEY, OTHER, record_for_rekey

DOCUMENTS = {
    "r.json": (RESULTS_ROLE, b'{\n  "schema_version": "1.0",\n  "bundle_id": "x"\n}\n'),
    "r.html": (REPORT_ROLE, b'<!DOCTYPE html>\n<meta name="generator" content="model-forensics">\n'),
}
Load = Callable[[Path], Hashable]


def _document(name: str, root: Path) -> bytes:
    return read_protected(root / "results" / name, role=DOCUMENTS[name][0], max_bytes=1 << 20, error=ResultsError)


ITEMS: dict[str, Load] = {
    "bundle": lambda root: load_bundle(root / "benign" / "0").content_digest,
    "baseline": lambda root: Baseline.load(root / "baseline").baseline_id,
    **{name: partial(_document, name) for name in DOCUMENTS},
}
"""What each gives, opened with the process's key."""


def use(monkeypatch: pytest.MonkeyPatch, new: EncryptionKey, old: EncryptionKey | None = None) -> None:
    for name, key in ((KEY_VARIABLE, new), (OLD_KEY_VARIABLE, old)):
        if key is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, base64.b64encode(key.secret).decode())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of everything, encrypted with `KEY`."""
    root = tmp_path / "place"
    root.mkdir()
    record_for_rekey(str(root))
    for name, (role, content) in DOCUMENTS.items():
        write_protected(root / "results" / name, content, role=role)
    assert {item.outcome for item in rekey_directory(root, Keys(None, KEY))} == {"rewritten"}
    return root


@pytest.mark.parametrize("exchange", [True, False])
def test_rekey(each_moment, run, place, tmp_path, monkeypatch, exchange):
    if not exchange:  # as on file systems that cannot do it
        monkeypatch.setattr(_exchange, "exchanged", lambda *_: False)
    use(monkeypatch, KEY)
    held = {name: load(place) for name, load in ITEMS.items()}
    work = tmp_path / "work"
    seen = set()

    def prepare(_: int) -> list:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(place, work)
        use(monkeypatch, OTHER, KEY)
        return ["rekey", work]

    def opened(key: EncryptionKey) -> set[str]:
        use(monkeypatch, key)
        names = set()
        for name, load in ITEMS.items():
            try:
                assert load(work) == held[name]
            except EncryptionKeyError:
                continue
            names.add(name)
        return names

    def check(_: int) -> None:
        old, new = opened(KEY), opened(OTHER)
        assert old | new == set(ITEMS)
        assert not old & new
        seen.add(frozenset(new))
        assert not [left for left in (work / ".rekey").rglob("*") if left.is_file()]
        use(monkeypatch, OTHER, KEY)
        again = run("rekey", work)
        assert again.exit_code == 0, again.output
        assert f"{len(old)} rewritten, {len(new)} unchanged, 0 refused" in again.output
        assert opened(OTHER) == set(ITEMS)
        assert {path.name for path in work.iterdir()} == {"baseline", "benign", "results"}

    assert each_moment(prepare, check) >= 60
    assert len(seen) == len(ITEMS) + 1  # from none of them to all
