"""The key: where it comes from, what is refused, and that nothing shows it."""

from __future__ import annotations

import base64
import copy
import pickle
import traceback

import pytest

from model_forensics.config import variables
from model_forensics.errors import EncryptionKeyError
from model_forensics.files import KEY_VARIABLE, OLD_KEY_VARIABLE, EncryptionKey, encryption_key, old_encryption_key
from tests.encryption.conftest import SECRET

TEXT = base64.b64encode(SECRET).decode()


def test_taken_from_the_environment(monkeypatch):
    assert encryption_key() is None
    monkeypatch.setenv(KEY_VARIABLE, f" {TEXT}\n")
    assert encryption_key() == EncryptionKey(SECRET)
    monkeypatch.setenv(KEY_VARIABLE, " ")
    assert encryption_key() is None


@pytest.mark.parametrize("text", ["", "none", " none\n"])
def test_no_old_key(monkeypatch, text):
    monkeypatch.setenv(OLD_KEY_VARIABLE, text)
    assert old_encryption_key() is None


@pytest.mark.parametrize("variable", [KEY_VARIABLE, OLD_KEY_VARIABLE])
@pytest.mark.parametrize(
    "text",
    [
        TEXT[:-4],
        TEXT[:-1],
        TEXT + "AAAA",
        base64.b64encode(SECRET + b"x").decode(),
        base64.b64encode(SECRET[:-1]).decode(),
        SECRET.hex(),
        TEXT.replace("Z", "ä"),
        TEXT[:10] + "\n" + TEXT[10:],
        "correct horse battery",
        "\udcff" + TEXT,
    ],
)
def test_malformed_keys_are_refused_and_never_shown(monkeypatch, variable, text):
    monkeypatch.setenv(variable, text)
    with pytest.raises(EncryptionKeyError) as caught:
        (encryption_key if variable == KEY_VARIABLE else old_encryption_key)()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert variable in shown
    assert caught.value.exit_code == 3
    pieces = {text[start : start + 6] for start in range(max(1, len(text) - 5))}
    assert not [piece for piece in pieces if piece in shown]
    assert caught.value.__cause__ is None


def test_nothing_prints_or_copies_it(key):
    shown = f"{key} {key!r} {[key]}"
    for form in (TEXT, SECRET.hex(), repr(SECRET), SECRET.decode("latin-1")):
        assert form not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(key)


def test_the_configuration_knows_the_same_variables_as_secret():
    for name in (KEY_VARIABLE, OLD_KEY_VARIABLE):
        assert variables.VARIABLES[name].secret
