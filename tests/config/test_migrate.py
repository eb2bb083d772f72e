"""`migrate_file`: one line more, everything else to the byte, and never a file lost."""

from __future__ import annotations

import os
import stat

import pytest

from model_forensics.config import load_config
from model_forensics.config.migrate import migrate_file
from model_forensics.errors import ConfigError, UsageError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mit Leerzeichen.yaml"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# mine\n\ndevice: cpu  # why\nseed: 3\n", '# mine\n\nversion: "1.1"\ndevice: cpu  # why\nseed: 3\n'),
        ("---\n  device: cpu\n  seed: 3\n", '---\n  version: "1.1"\n  device: cpu\n  seed: 3\n'),
        ("{device: cpu}  # x\n", '{version: "1.1", device: cpu}  # x\n'),
        ("device: cpu\r\nseed: 3\r\n", 'version: "1.1"\r\ndevice: cpu\r\nseed: 3\r\n'),
        ("\ufeffdevice: cpu\n", '\ufeffversion: "1.1"\ndevice: cpu\n'),
        ("version: 1.0  # old\ndevice: cpu", 'version: "1.1"  # old\ndevice: cpu'),
        ("# only this", '# only this\nversion: "1.1"\n'),
        ("", 'version: "1.1"\n'),
    ],
)
def test_one_line_more_and_the_same_configuration(file, before, after):
    file.write_bytes(before.encode())
    file.chmod(0o640)
    config = load_config(file, environment={}).config
    done = migrate_file(file)
    assert file.read_bytes() == after.encode()
    assert done.backup is not None
    assert done.backup.read_bytes() == before.encode()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file, done.backup)} == {0o640}
    assert "1.1" in done.diff.split("@@")[-1]
    loaded = load_config(file, environment={})
    assert (loaded.config, loaded.file_version) == (config, "1.1")
    again = migrate_file(file)
    assert (again.backup, again.diff) == (None, "")
    assert file.read_bytes() == after.encode()
    assert set(file.parent.iterdir()) == {file, done.backup}


def test_another_backup_is_not_overwritten(file):
    file.write_text("seed: 1\n")
    backup = file.with_name(f"{file.name}.v1.0.bak")
    backup.write_text("mine")
    with pytest.raises(UsageError, match="already"):
        migrate_file(file)
    assert (file.read_text(), backup.read_text()) == ("seed: 1\n", "mine")
    assert set(file.parent.iterdir()) == {file, backup}


def test_an_interrupted_migration_is_finished(file, monkeypatch):
    file.write_text("seed: 1\n")

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        real = os.replace
        patch.setattr(os, "replace", lambda source, target: die() if str(target) == str(file) else real(source, target))
        with pytest.raises(KeyboardInterrupt):
            migrate_file(file)
    assert file.read_text() == "seed: 1\n"
    assert migrate_file(file).backup is not None
    assert file.read_text() == 'version: "1.1"\nseed: 1\n'


@pytest.mark.parametrize("text", ["? device\n: cpu\n", "{}\n"])
def test_a_layout_that_a_line_does_not_fit_is_left_alone(file, text):
    file.write_text(text)
    with pytest.raises(ConfigError, match="by hand"):
        migrate_file(file)
    assert file.read_text() == text
    assert list(file.parent.iterdir()) == [file]


def test_a_broken_file_is_refused_before_anything_is_written(file):
    file.write_text("devise: cpu\n")
    with pytest.raises(ConfigError, match="The nearest key is device"):
        migrate_file(file)
    assert list(file.parent.iterdir()) == [file]


def test_of_a_link_the_file_itself_is_migrated(file):
    file.write_text("seed: 1\n")
    link = file.with_name("link.yaml")
    link.symlink_to(file)
    assert migrate_file(link).file == file
    assert link.is_symlink()
