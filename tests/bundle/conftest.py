from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]  # alike, golden_writer, real_recordings

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden() -> Path:
    return GOLDEN


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of the golden bundle to break."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "broken"))


@pytest.fixture
def edit_manifest() -> Callable[..., None]:
    def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
        value = json.loads((bundle / "manifest.json").read_text())
        change(value)
        (bundle / "manifest.json").write_text(json.dumps(value))

    return edit


@pytest.fixture
def reseal(edit_manifest: Callable[..., None]) -> Callable[[Path], None]:
    """Make sizes and digests in the manifest those of the files, as an attacker would."""

    def seal(bundle: Path) -> None:
        def change(value: dict[str, Any]) -> None:
            for name, entry in value["files"].items():
                data = (bundle / name).read_bytes()
                entry.update(sha256="sha256:" + hashlib.sha256(data).hexdigest(), bytes=len(data))

        edit_manifest(bundle, change)

    return seal
