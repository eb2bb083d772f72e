"""Memory that encrypted files take while they are read in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_forensics.files import EncryptionKey, Seal, open_safetensors, write_safetensors
from model_forensics.files import _sealed_read as sealed


def test_decrypted_segments_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_RECENT", sealed._RecentSegments(sealed.CACHED_SEGMENTS))
    monkeypatch.setattr(sealed, "FEW_SEGMENTS", 2)
    values = np.arange(1 << 20, dtype=np.float32)  # 4 MiB
    seal = Seal(EncryptionKey.random(), "test")
    write_safetensors(tmp_path / "x", {"x": values}, seal=seal)
    tensors = open_safetensors(tmp_path / "x", seal=seal)
    read = tensors.array("x")
    assert len(sealed._RECENT._segments) == 5
    tensors.release_memory()
    assert len(sealed._RECENT._segments) == 2
    np.testing.assert_array_equal(read, values)
    np.testing.assert_array_equal(tensors.rows("x", 5, 1 << 19), values[5 : 1 << 19])
