"""Where a batch keeps what: the layout of its output directory."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_forensics.errors import UsageError
from model_forensics.files import storage_errors, sync

ENDINGS = (".html", ".json")  # in the order in which they are published: who sees the JSON sees the page
_KEPT = re.compile(r"(?![.-])[\w. +=@,-]{1,120}")
_STAGING = ".staging-"


def result_name(directory: str) -> str:
    """The name of a bundle's result, for the name of its directory: different for different ones, and harmless.

    Most names stay as they are. Others (very long, not UTF-8, with control characters, "~" or a leading dot) keep what
    can be kept, and get a digest after "~", which no other name has.
    """
    if _KEPT.fullmatch(directory) and directory.isprintable():
        return directory
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", directory)[:80].lstrip(".-")
    return f"{readable}~{hashlib.sha256(os.fsencode(directory)).hexdigest()[:32]}"


class Places:
    """The files of a batch.

    Workers write into `staging`, a directory of this run. What the ledger calls done is moved to `results`.

    Attributes:
        root: the output directory.
        run: names this run of the batch.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.run = secrets.token_hex(8)

    @property
    def ledger(self) -> Path:
        return self.root / "batch.sqlite"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def baseline(self) -> Path:
        return self.root / "baseline"

    @property
    def summaries(self) -> tuple[Path, Path]:
        return self.root / "summary.json", self.root / "summary.html"

    @property
    def staging(self) -> Path:
        return self.root / f"{_STAGING}{self.run}"

    def result(self, name: str) -> Path:
        return self.results / f"{name}.json"

    def staged(self, name: str) -> Path:
        return self.staging / f"{name}.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the directory and keeps other batches out of it; the lock ends with the process, however it ends.

        Raises:
            UsageError: another batch is at work here, or files are in the way that no batch wrote.
            StorageError: the directory cannot be made or written to.
        """
        if self.root.exists() and not self.ledger.exists():
            for place in (self.results, *self.summaries):
                if os.path.lexists(place):
                    raise UsageError("is in the way, and no batch wrote it", where=place, cure="Choose another output")
        with storage_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise UsageError(
                    "another batch is at work here", where=self.root, cure="Wait for it, or choose another output"
                ) from problem
            yield
        finally:
            os.close(lock)

    def publish(self, name: str, staging: Path | None = None) -> None:
        """Moves what was staged under this name to the results; what is not there was moved before."""
        with storage_errors(self.results):
            self.results.mkdir(exist_ok=True)
            for ending in ENDINGS:
                source = (staging or self.staging) / f"{name}{ending}"
                if source.exists():
                    os.replace(source, self.results / f"{name}{ending}")
            sync(self.results)

    def withdraw(self, name: str) -> None:
        """Removes the result of this name, the JSON first."""
        if not self.results.exists():
            return
        with storage_errors(self.results):
            for ending in reversed(ENDINGS):
                (self.results / f"{name}{ending}").unlink(missing_ok=True)
            sync(self.results)

    def stagings(self) -> list[tuple[str, Path]]:
        """(run, directory) of this run and of those that were killed."""
        return [(place.name.removeprefix(_STAGING), place) for place in self.root.glob(f"{_STAGING}*")]

    def discard_unfinished(self) -> None:
        """Removes staging directories and what `files` had not finished. The lock is held, so nobody needs them."""
        for _, place in self.stagings():
            shutil.rmtree(place, ignore_errors=True)  # that of a dying worker may fill again meanwhile
        with storage_errors(self.root):
            for name in ("summary", "baseline"):
                for place in self.root.glob(f".{name}*"):
                    shutil.rmtree(place) if place.is_dir() else place.unlink()

    def clear(self) -> None:
        """Removes everything that a batch wrote here, except its ledger."""
        self.discard_unfinished()
        with storage_errors(self.root):
            for directory in (self.results, self.baseline):
                if directory.exists():
                    shutil.rmtree(directory)
            for summary in self.summaries:
                summary.unlink(missing_ok=True)
            sync(self.root)


def staged_names(staging: Path) -> set[str]:
    """Names of complete results in a staging directory; unfinished writes are hidden files."""
    return {path.stem for path in staging.iterdir() if path.suffix in ENDINGS and not path.name.startswith(".")}
