"""Ctrl-C at every moment while a bundle is rewritten that another program replaces meanwhile: the other's stays."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from model_forensics.bundle import compress, compress_bundles, load_bundle
from model_forensics.errors import InputRefused, StorageError
from model_forensics.rekey import Keys, containers, rekey_directory
from tests.interrupts import each_moment, interrupted
from tests.kills.bundles import OTHER, record


def _compress(root: Path) -> None:
    list(compress_bundles(root, timedelta(0), keep_going=True))


def _rekey(root: Path) -> None:
    list(rekey_directory(root, Keys(None, OTHER)))


@pytest.mark.parametrize(("module", "rewrite"), [(compress, _compress), (containers, _rekey)])
def test_what_another_program_put_there_stays(module: ModuleType, rewrite, tmp_path, monkeypatch):
    root = tmp_path / "bundles"
    record(tmp_path / "mine", 1, samples=1)
    record(tmp_path / "theirs", 2, samples=1)
    digest = load_bundle(tmp_path / "theirs").content_digest
    exchange, replaced = module.replace_directory, []

    def late(new: Path, target: Path, aside: Path) -> Path:
        """The other program comes between the last look and the exchange."""
        if target == root / "b" and not replaced:
            replaced.append(target)
            shutil.rmtree(target)
            shutil.copytree(tmp_path / "theirs", target)
        return exchange(new, target, aside)

    monkeypatch.setattr(module, "replace_directory", late)

    def rewritten() -> None:
        with suppress(StorageError, InputRefused):
            rewrite(root)

    def prepare(_: int):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(tmp_path / "mine", root / "b")
        replaced.clear()
        return partial(interrupted, rewritten)

    seen = []

    def check(_: int) -> None:
        if replaced:
            assert load_bundle(root / "b").content_digest == digest
            seen.append(os.listdir(root))

    each_moment(prepare, check)
    assert len(seen) > 3
