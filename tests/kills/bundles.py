"""Recording a bundle, compressing bundles, changing their key, saving a baseline."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np

from model_forensics.bundle import BundleWriter, compress_bundles, load_bundle
from model_forensics.cf import Baseline, fit_baseline
from model_forensics.config import ForensicsConfig
from model_forensics.errors import InputRefused, ResultsError
from model_forensics.files import EncryptionKey, is_protected
from model_forensics.rekey import Keys, rekey_directory
from tests.kills.scenario import Replacement

KEY, OTHER = EncryptionKey(bytes(32)), EncryptionKey(bytes(range(32)))
KEYED = {"MODEL_FORENSICS_ENCRYPTION_KEY": "A" * 43 + "="}


def record(place: Path, seed: int, codec: Literal["none", "arithmetic"] = "none", samples: int = 4) -> None:
    """A bundle whose bytes depend on the arguments alone, unless it is encrypted; replaces what is there."""
    random = np.random.default_rng(seed)
    with BundleWriter(
        place, kind="benign", overwrite=True, codec=codec, bundle_id=f"b{seed}", only_environment=True,
        created_at=datetime(2020, 1, 1, tzinfo=UTC),
    ) as writer:  # fmt: skip
        for _ in range(samples):
            values = random.standard_normal((20, 30)).astype(np.float32)
            writer.add_sample(activations={"L0.mlp": values, "L1.mlp": values[:3]}, outputs={"logits": values[:1]})


def record_old(root: str) -> None:
    record(Path(root, "b"), 1)


def record_new(root: str) -> None:
    record(Path(root, "b"), 2)


def record_coded(root: str) -> None:
    record(Path(root, "b"), 2, "arithmetic")


def compress(root: str) -> None:
    list(compress_bundles(root, timedelta(days=90)))


def record_and_fit(root: str) -> None:
    for number in range(6):
        record(Path(root, "benign", str(number)), number, samples=1)
    _fit(Path(root), 5).save(Path(root, "baseline"))


def save_baseline(root: str) -> None:
    _fit(Path(root), 6).save(Path(root, "baseline"), overwrite=True)


def _fit(root: Path, recordings: int) -> Baseline:
    parts = [load_bundle(root / "benign" / str(number)) for number in range(recordings)]
    return fit_baseline(parts, ForensicsConfig())


def record_for_rekey(root: str) -> None:
    record_and_fit(root)
    Path(root, "results").mkdir()
    Path(root, "results", "r.html").write_text('<!DOCTYPE html><meta name="generator" content="model-forensics">')
    for number in range(1, 6):
        shutil.rmtree(Path(root, "benign", str(number)))  # one is enough


def rekey(root: str) -> None:
    done = list(rekey_directory(root, Keys(None, OTHER)))
    assert all(one.outcome != "refused" for one in done), done


class NewRecord(Replacement):
    name = "record, a new bundle"
    module = __name__
    act = "record_new"


class CodedRecord(Replacement):
    name = "record, replacing a bundle by a coded one"
    module = __name__
    prepare = "record_old"
    act = "record_coded"


class EncryptedRecord(Replacement):
    name = "record, replacing an encrypted bundle"
    module = __name__
    prepare = "record_old"
    act = "record_new"
    environment = KEYED

    def state(self, root: Path) -> Hashable:
        return load_bundle(root / "b", key=KEY).content_digest


class Compress(Replacement):
    name = "compress-bundles"
    module = __name__
    prepare = "record_old"
    act = "compress"


class CompressEncrypted(Replacement):
    name = "compress-bundles, encrypted"
    module = __name__
    prepare = "record_old"
    act = "compress"
    environment = KEYED

    def state(self, root: Path) -> Hashable:
        bundle = load_bundle(root / "b", key=KEY)
        return bundle.content_digest, bundle.manifest.codec


class SaveBaseline(Replacement):
    name = "build-baseline"
    module = __name__
    prepare = "record_and_fit"
    act = "save_baseline"


class Rekey(Replacement):
    """Item by item: each has the old or the new key."""

    name = "rekey"
    module = __name__
    prepare = "record_for_rekey"
    act = "rekey"

    def state(self, root: Path) -> tuple[Hashable, ...]:
        page = (root / "results" / "r.html").read_bytes()
        return (
            _opened(lambda key: load_bundle(root / "benign" / "0", key=key).content_digest),
            _opened(lambda key: Baseline.load(root / "baseline", key=key).baseline_id),
            b"encrypted" if is_protected(root / "results" / "r.html", error=ResultsError) else page,
        )

    def whole(self, state: tuple[Hashable, ...]) -> bool:
        return all(part in parts for part, *parts in zip(state, self.old, self.new, strict=True))


def _opened(load: Callable[[EncryptionKey | None], str]) -> tuple[bool, str]:
    """Whether it is encrypted, and its digest."""
    try:
        return True, load(OTHER)
    except InputRefused:
        return False, load(None)
