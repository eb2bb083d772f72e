"""With a key, no command writes the key anywhere, and nothing of what was recorded where it is not encrypted.

Every command runs. All files that are there afterwards are searched, those that were removed or renamed meanwhile as
they were then, and both streams. What is plain on purpose is listed here and in docs/encryption.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from model_forensics.bundle import load_bundle
from model_forensics.cli.main import COMMANDS, main
from model_forensics.demo import data_directory
from model_forensics.files import KEY_VARIABLE, OLD_KEY_VARIABLE, EncryptionKey
from model_forensics.rekey import Keys, rekey_directory

NEW, OLD = b"canary: the new key, 32 bytes ~\xff", b"canary: the old key, 32 bytes ~\xfe"
PROMPT = "canary prompt, which nobody may read"
PLAIN = (  # on purpose
    r"(results|demo)/ledger\.sqlite",
    r"(batch/batch)\.sqlite",
    r"batch/\.lock",
    r"audit\.jsonl(\.head)?",
    r"model-forensics\.log",
    r"old\.yaml(\..*)?|config\.yaml",
    r"cache/(size|lock)",
    r"results/profile-.*\.json",
    r"fix\.(py|bin)",
    r"opened/plain\.html",
    r"model/.*",
)


def forms(secret: bytes) -> list[bytes]:
    """How the secret could stand in a file: raw, hexadecimal, base64 wherever it begins in what is encoded, escaped."""
    found = [secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()]
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(shift) + secret)
            found.append(text[4 if shift else 0 : len(text) - 4])  # the ends depend on what stands beside it
    return found


KEY_FORMS = [form for secret in (NEW, OLD) for form in forms(secret)]


class Watch:
    """What became of files below a directory, through Python's audit events."""

    def __init__(self) -> None:
        self.root: Path | None = None
        self.seen: list[tuple[str, bytes]] = []
        self.programs: list[tuple[str, dict[str, str] | None]] = []  # command line, environment if not inherited
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.root is None:
            return
        if event in ("os.remove", "os.rename", "shutil.rmtree"):
            self._look(arguments[0])
        elif event == "subprocess.Popen":
            self.programs.append((" ".join(map(str, arguments[1])), arguments[3]))

    def _look(self, place: Any) -> None:
        root, self.root = self.root, None  # looking removes nothing, but who knows
        try:
            path = Path(os.fsdecode(place))
            if path.is_absolute() and path.is_relative_to(str(root)):
                for file in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
                    self.seen.append((str(file.relative_to(str(root))), file.read_bytes()))
        finally:
            self.root = root


WATCH = Watch()


def with_prompt(source: Path, target: Path) -> Path:
    """The shipped incident, its samples' text and group being the canary."""
    shutil.copytree(source, target)
    lines = [json.loads(line) for line in (target / "samples.jsonl").read_text().splitlines()]
    text = "".join(json.dumps({**line, "text": f"{PROMPT} {place}"}) + "\n" for place, line in enumerate(lines))
    (target / "samples.jsonl").write_text(text)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["files"]["samples.jsonl"] = {
        "sha256": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
        "bytes": len(text),
    }
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An operator's directory: encrypted bundles, a configuration, a log, an audit log."""
    root = tmp_path / "place"
    root.mkdir()
    for name, folder in (("TMPDIR", "tmp"), ("XDG_CACHE_HOME", "xdg"), ("HOME", "home")):
        (root / folder).mkdir()
        monkeypatch.setenv(name, str(root / folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(root)
    with data_directory() as data:
        for name in ("one", "two"):
            with_prompt(data / "incident", root / "bundles" / name)
        shutil.copytree(data / "benign", root / "benign")
        shutil.copytree(data / "model", root / "model")
    list(rekey_directory(root, Keys(None, EncryptionKey(NEW))))
    shape = "output_dir: results\ncache: {directory: cache}\nlog_level: DEBUG\nlog_file: model-forensics.log\n"
    (root / "config.yaml").write_text(f'version: "1.1"\n{shape}audit_log: audit.jsonl\n')
    (root / "old.yaml").write_text('output_dir: "results"\n')
    monkeypatch.setenv("MODEL_FORENSICS_CONFIG", "config.yaml")
    monkeypatch.setenv(KEY_VARIABLE, base64.b64encode(NEW).decode())
    monkeypatch.setenv(OLD_KEY_VARIABLE, base64.b64encode(OLD).decode())
    WATCH.seen.clear()
    WATCH.programs.clear()
    WATCH.root = root
    yield root
    WATCH.root = None


def commands() -> list[tuple[list[str], int]]:
    """Each with its exit code; every command of the tool is among them."""
    analyze = ["analyze", "bundles/one", "--baseline", "benign", "--model", "model", "--max-fix-set-size", "1"]
    return [
        (["info", "--format", "json"], 0),
        (["info"], 0),
        (["completion", "bash"], 0),
        (["migrate-config", "old.yaml"], 0),
        (["inspect", "bundles/one", "--format", "json"], 0),
        (["build-baseline", "benign", "--output", "baseline"], 0),
        (["triage", "bundles", "--baseline", "baseline", "--workers", "1"], 0),
        ([*analyze, "--output", "results/one.json", "--profile"], 0),
        (["validate-fix", "results/one.json", "--model", "model", "--baseline", "benign",
          "--export-hook", "fix.py"], 0),
        (["report", "results/one.json", "--output", "results/page.html"], 0),
        (["report", "results/one.json", "--output", "opened/plain.html", "--decrypt"], 0),
        (["diff", "bundles/one", "bundles/two", "--report", "results/diff.html"], 0),
        (["batch", "bundles", "--baseline", "baseline", "--output", "batch", "--forensics-only", "--workers", "1"], 0),
        (["stats"], 0),
        (["test", "--config", "config.yaml"], 0),
        (["demo", "--output", "demo"], 0),
        (["compress-bundles", "bundles", "--older-than", "0d"], 0),
        (["rekey", "bundles"], 0),
        (["info", "--verify-audit", "audit.jsonl"], 0),
    ]  # fmt: skip


def run(arguments: list[str], code: int | None) -> Result:
    done = CliRunner().invoke(main, arguments)
    assert code is None or done.exit_code == code, f"{arguments}: {done.output}"
    return done


def files_of(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def leaks_of(name: str, content: bytes, prompts: tuple[bytes, ...] = ()) -> list[str]:
    found = [f"a key is in {name}"] if any(form in content for form in KEY_FORMS) else []
    return found + [f"what was recorded is in {name}" for prompt in prompts if prompt in content]


@pytest.mark.slow
def test_every_command(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran = commands()
    assert {arguments[0] for arguments, _ in ran} == set(COMMANDS)
    tokens = load_bundle(place / "bundles" / "one").inputs(0)["input_ids"].tobytes()
    assert len(tokens) > 32
    leaks = []
    for arguments, code in ran:
        leaks += leaks_of(f"the output of {arguments}", run(arguments, code).output.encode())
    leaks += leaks_of("what workers printed", "".join(capfd.readouterr()).encode())
    for line, _ in WATCH.programs:
        leaks += leaks_of(f"the command line {line}", line.encode())
    (environment,) = (given for line, given in WATCH.programs if "hook_check" in line)
    assert environment is not None
    assert not {KEY_VARIABLE, OLD_KEY_VARIABLE} & set(environment)
    assert WATCH.seen, "files were renamed"
    for name, content in [*files_of(place).items(), *WATCH.seen]:
        leaks += leaks_of(name, content, (PROMPT.encode(), tokens))
        leaks += leaks_of(f"{name}, decrypted", opened(place / name))
    assert leaks == []
    plain = [name for name, content in files_of(place).items() if content and not content.startswith(b"(")]
    assert [name for name in plain if not any(re.fullmatch(pattern, name) for pattern in PLAIN)] == []


def opened(path: Path) -> bytes:
    """What an encrypted document holds; nothing of other files."""
    from model_forensics.errors import InputRefused
    from model_forensics.files import Seal, open_content, read_content

    for role in ("results", "report", "summary"):
        try:
            return read_content(open_content(path, Seal(EncryptionKey(NEW), role)))
        except InputRefused:
            continue
    return b""


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no key": lambda patch: patch.delenv(KEY_VARIABLE),
    "another key": lambda patch: patch.setenv(KEY_VARIABLE, base64.b64encode(OLD).decode()),
    "half a key": lambda patch: patch.setenv(KEY_VARIABLE, base64.b64encode(NEW).decode()[:-4]),
    "a key and more": lambda patch: patch.setenv(KEY_VARIABLE, base64.b64encode(NEW + b"x").decode()),
    "a key that is none": lambda patch: patch.setenv(KEY_VARIABLE, NEW.hex()),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_every_command_that_fails_over_its_key(place: Path, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    FAILURES[failure](monkeypatch)
    codes = set()
    for arguments, _ in commands():
        if arguments[0] in ("test", "demo", "batch"):  # which would take long, and go through the same
            continue
        done = run(arguments, None)
        codes.add(done.exit_code)
        assert done.exit_code != 5, done.output
        assert leaks_of(f"the output of {arguments}", done.output.encode()) == []
        assert base64.b64encode(NEW)[:12] not in done.output.encode()
    assert 3 in codes
    for name, content in [*files_of(place).items(), *WATCH.seen]:
        assert leaks_of(name, content) == []
