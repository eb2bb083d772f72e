from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_forensics.files import KEY_VARIABLE, OLD_KEY_VARIABLE, EncryptionKey

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bundle")]  # oracle; alike, golden_writer

SECRET = bytes(range(100, 132))
OTHER = bytes(range(32))


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the tests says."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(OLD_KEY_VARIABLE, raising=False)


@pytest.fixture
def key() -> EncryptionKey:
    return EncryptionKey(SECRET)


@pytest.fixture
def other() -> EncryptionKey:
    return EncryptionKey(OTHER)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[EncryptionKey | None], None]:
    """Makes a key the process's, or takes it away."""

    def set_key(key: EncryptionKey | None) -> None:
        if key is None:
            monkeypatch.delenv(KEY_VARIABLE, raising=False)
        else:
            monkeypatch.setenv(KEY_VARIABLE, base64.b64encode(key.secret).decode())

    return set_key
