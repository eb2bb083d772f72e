"""Writing a bundle: samples in, directory out, all or nothing, in bounded memory."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from model_forensics.bundle.assemble import Call, assemble
from model_forensics.bundle.collect import Output, SiteData, check_outputs
from model_forensics.bundle.schema import (
    FORMAT_VERSION,
    MANIFEST,
    MAX_OUTPUTS,
    MAX_SITES,
    SEALED,
    Codec,
    Encryption,
    Manifest,
    in_words,
    looks,
)
from model_forensics.bundle.spool import Spool
from model_forensics.errors import UsageError
from model_forensics.failure import Failure
from model_forensics.files import (
    KEY_VARIABLE,
    MAX_TENSORS,
    Storage,
    atomic_directory,
    create_file,
    dump_json,
    encryption_key,
    storage_errors,
)
from model_forensics.types import BundleKind, ModelReference, Sample, SiteInfo, Sparse

Activation = npt.NDArray[Any] | Sparse


@dataclass(frozen=True)
class CallSample:
    """One row of a batch.

    Attributes:
        activations: site name → [rows, features] or `Sparse`, padding removed; a sample may lack some sites.
        outputs: name → [rows, ...]; `logits` is [positions, classes], the scored positions only.
        text: the input in words.
        group: prompt or conversation; samples of a group are not independent. Without one, a group of its own.
        right: overrides the failure's right answers.
        wrong: overrides the failure's wrong answers.
        tokens: real tokens of the input; without it, the number of rows that most activations have.
        generated_from: index of the first generated token, when the run was a generation.
        row: its row of the call's inputs; without it, its place in `samples`.
        sample_id: unique in the bundle; without it, "sample-" and its number.
    """

    activations: Mapping[str, Activation]
    outputs: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    text: str | None = None
    group: str | None = None
    right: Sequence[int] | None = None
    wrong: Sequence[int] | None = None
    tokens: int | None = None
    generated_from: int | None = None
    row: int | None = None
    sample_id: str | None = None


class BundleWriter:
    """Context manager that writes one bundle; a clean exit makes it appear, an exception leaves nothing behind.

    Activations are float64, float32 or float16 arrays; a site's dtype, features and layout are those of its first
    sample. For bfloat16, declare the site with that dtype and pass the uint16 bit patterns.

    Args:
        path: the directory to make.
        kind: "incident" or "benign"; a benign bundle has no failure.
        failure: what it means that the outputs fail; None where that is not known.
        model: which model ran.
        created_at: with a time zone; now by default.
        bundle_id: 1 to 200 characters without control characters and slashes; the directory's name by default.
        overwrite: replace an existing bundle.
        codec: "none", or "arithmetic" to store the tensors compressed, without loss.
        encryption: "none", or "aes256-gcm-hkdf-1mb", which needs a key (see `files.encryption_key`); by default the
            latter exactly when there is a key.
        environment: more about the run, text to text; overrides the default entries of the same name. Replaces all of
            them when `only_environment`.
        only_environment: record nothing about this machine by default (reproducible bytes).

    Raises:
        UsageError: wrong arguments, an existing directory without `overwrite`, or encryption without a key.
        EncryptionKeyError: the process's key is malformed.
        StorageError: writing failed.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        kind: BundleKind,
        failure: Failure | None = None,
        model: ModelReference | None = None,
        created_at: datetime | None = None,
        bundle_id: str | None = None,
        overwrite: bool = False,
        codec: Codec = "none",
        encryption: Encryption | None = None,
        environment: Mapping[str, str] | None = None,
        only_environment: bool = False,
    ) -> None:
        self.path = Path(path)
        if kind not in ("incident", "benign"):
            raise UsageError(f"kind {kind!r}", where=path, cure="Use 'incident' or 'benign'")
        if kind == "benign" and failure is not None:
            raise UsageError("a benign bundle has no failure", where=path, cure="Leave it out, or use kind='incident'")
        if created_at is not None and created_at.tzinfo is None:
            raise UsageError("created_at has no time zone", where=path, cure="Use datetime.now(timezone.utc)")
        self.kind: BundleKind = kind
        self.failure = failure
        self.model = model
        self.created_at = (created_at or datetime.now(UTC)).astimezone(UTC)
        self.bundle_id = self.path.absolute().name if bundle_id is None else bundle_id
        self.environment = {**({} if only_environment else _environment()), **(environment or {})}
        self.codec: Codec = codec
        self._key = None if encryption == "none" else encryption_key()
        if encryption == SEALED and self._key is None:
            raise UsageError("encryption without a key", where=path, cure=f"Set {KEY_VARIABLE}")
        self.encryption: Encryption = "none" if self._key is None else SEALED
        self._overwrite = overwrite
        self._stack: ExitStack | None = None
        self._sites: dict[str, SiteData] = {}
        self._samples: list[Sample] = []
        self._sample_ids: set[str] = set()
        self._calls: list[Call] = []
        self._inputs = 0  # tensors of all calls
        self._outputs: dict[str, Output] = {}
        self._open = False
        self._broken = False
        self._check_head()

    def __enter__(self) -> Self:
        if self._stack is not None:
            raise UsageError("a writer is used once", where=self.path, cure="Make another BundleWriter")
        with ExitStack() as stack:
            self._directory = stack.enter_context(atomic_directory(self.path, overwrite=self._overwrite))
            with storage_errors(self.path):
                self._spool = Spool(self._directory / ".spool", encrypted=self._key is not None)
            stack.callback(self._spool.close)
            self._stack = stack.pop_all()
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stack is not None
        stack, self._open = self._stack, False
        if problem is None:
            try:
                self._finish()
            except BaseException:  # the temporary directory goes, whatever went wrong
                stack.__exit__(*sys.exc_info())
                raise
        stack.__exit__(kind, problem, trace)

    def declare_site(self, site: SiteInfo) -> None:
        """Say beforehand what a site is; the order of declarations (then of first use) is the order of the bundle.

        A declared site that no sample recorded is left out of the bundle.

        Raises:
            UsageError: declared or recorded before.
        """
        if site.name in self._sites:
            raise UsageError("the site is declared or recorded already", where=site.name, cure="Declare each site once")
        if site.features < 1:
            raise UsageError(f"{site.features} features", where=site.name, cure="Declare at least one")
        self._sites[site.name] = SiteData(site, declared=True)

    def add_sample(
        self,
        *,
        activations: Mapping[str, Activation],
        inputs: Mapping[str, npt.NDArray[Any]] | None = None,
        outputs: Mapping[str, npt.NDArray[Any]] | None = None,
        text: str | None = None,
        group: str | None = None,
        right: Sequence[int] | None = None,
        wrong: Sequence[int] | None = None,
        tokens: int | None = None,
        generated_from: int | None = None,
        sample_id: str | None = None,
    ) -> None:
        """Add a sample that was run by itself: `inputs` have a first dimension of 1. Rest as `CallSample`.

        Raises:
            UsageError: as `add_call`.
            OutputError: as `add_call`.
            StorageError: as `add_call`.
        """
        sample = CallSample(
            activations, outputs or {}, text, group, right, wrong, tokens, generated_from, sample_id=sample_id
        )
        self.add_call(inputs or {}, [sample])

    def add_call(self, inputs: Mapping[str, npt.NDArray[Any]], samples: Sequence[CallSample]) -> None:
        """Add one batch: its inputs exactly as passed to the model, and what its rows gave.

        Nothing is added when an argument is refused.

        Raises:
            UsageError: outside the `with` block; no samples; shapes, dtypes or layouts that do not fit.
            OutputError: an output holds NaN or infinity and the failure is not `nonfinite`.
            StorageError: writing failed; the writer cannot be used any more.
        """
        if not self._open or self._broken:
            raise UsageError("the writer is not open", where=self.path, cure="Use it in a with statement")
        if not samples:
            raise UsageError("a call without samples", where=self.path, cure="Give at least one sample")
        call = Call.checked(inputs, len(self._calls))
        described = [self._describe(sample, place, call) for place, sample in enumerate(samples)]
        if len({row.sample_id for row in described} | self._sample_ids) != len(self._sample_ids) + len(samples):
            raise UsageError("a sample_id is used twice", where=self.path, cure="Give each sample its own")
        if len({row.row for row in described}) != len(samples):
            raise UsageError("two samples have the same row of the call", where=self.path, cure="Give each its own row")
        allow_nonfinite = self.failure is not None and self.failure.kind == "nonfinite"
        outputs = check_outputs([sample.outputs for sample in samples], self._outputs, allow_nonfinite)
        sites = dict(self._sites)
        prepared = []
        for sample in samples:
            values = []
            for name, value in sample.activations.items():
                site = sites.get(name) or SiteData.from_first(name, value)
                sites[name] = site
                values.append((site, site.checked(value)))
            prepared.append(values)
        self._check_room(sites, outputs, call)
        self._sites = sites
        self._outputs = outputs
        self._store(call, described, prepared, samples)

    def _check_room(self, sites: Mapping[str, SiteData], outputs: Mapping[str, Output], call: Call) -> None:
        """Refuse now what could not be read."""
        if len(sites) > len(self._sites) and len({looks(name) for name in sites}) < len(sites):
            what = "two site names differ in Unicode normalisation or invisible characters only"
            raise UsageError(what, where=self.path, cure="Rename one")
        if len(sites) > MAX_SITES or len(outputs) > MAX_OUTPUTS:
            what = f"more than {MAX_SITES:,} sites, or {MAX_OUTPUTS:,} outputs"
            raise UsageError(what, where=self.path, cure="Record fewer")
        if self._inputs + len(call.arrays) > MAX_TENSORS:
            what = f"a bundle holds at most {MAX_TENSORS:,} inputs, those of all calls together"
            raise UsageError(what, where=self.path, cure="Close this bundle and begin another")

    def _store(
        self,
        call: Call,
        described: Sequence[Sample],
        prepared: Sequence[Sequence[tuple[SiteData, Activation]]],
        samples: Sequence[CallSample],
    ) -> None:
        self._broken = True  # until everything is on disk, a failure must not leave a half-added call behind
        with storage_errors(self.path):
            call.store(self._spool)
            for row, values, sample in zip(described, prepared, samples, strict=True):
                for site, value in values:
                    site.store(self._spool, len(self._samples), value)
                for name, output in sample.outputs.items():
                    self._outputs[name].store(self._spool, len(self._samples), np.asarray(output))
                self._samples.append(row)
                self._sample_ids.add(row.sample_id)
        self._calls.append(call)
        self._inputs += len(call.shapes)
        self._broken = False

    def _describe(self, sample: CallSample, place: int, call: Call) -> Sample:
        number = len(self._samples) + place
        sample_id = f"sample-{number}" if sample.sample_id is None else sample.sample_id
        row = place if sample.row is None else sample.row
        tokens = _common_rows(sample.activations) if sample.tokens is None else sample.tokens
        if row < 0 or tokens < 0 or (sample.generated_from or 0) < 0:
            raise UsageError(
                "row, tokens and generated_from must not be negative", where=sample_id, cure="Correct them"
            )
        if call.rows is not None and row >= call.rows:
            raise UsageError(
                f"row {row} of a call whose inputs have {call.rows} rows",
                where=sample_id,
                cure="Pass the inputs with their batch dimension first, and as many samples as rows at most",
            )
        return Sample(
            sample_id=sample_id,
            group=sample_id if sample.group is None else sample.group,
            call=len(self._calls),
            row=row,
            tokens=tokens,
            text=sample.text,
            right=None if sample.right is None else tuple(int(answer) for answer in sample.right),
            wrong=None if sample.wrong is None else tuple(int(answer) for answer in sample.wrong),
            generated_from=sample.generated_from,
        )

    def _check_head(self) -> None:
        """Refuse at once what the reader would refuse later."""
        head = {
            "format_version": FORMAT_VERSION,
            "bundle_id": self.bundle_id,
            "kind": self.kind,
            "created_at": self.created_at,
            "model": self.model,
            "failure": self.failure,
            "sites": (),
            "samples": 1,
            "calls": 1,
            "token_offsets": (0, 0),
            "environment": self.environment,
            "codec": self.codec,
            "encryption": self.encryption,
            "files": {},
        }
        try:
            Manifest.model_validate(head)
        except ValidationError as problem:
            raise UsageError(in_words(problem), where=self.path, cure="Correct the argument") from problem

    def _finish(self) -> None:
        if self._broken:
            raise UsageError("an earlier write failed", where=self.path, cure="Record it again")
        if not self._samples:
            raise UsageError("the bundle has no samples", where=self.path, cure="Add at least one before closing")
        head = {
            "format_version": FORMAT_VERSION,
            "bundle_id": self.bundle_id,
            "kind": self.kind,
            "created_at": self.created_at.isoformat(),
            "model": None if self.model is None else self.model.model_dump(mode="json"),
            "failure": None if self.failure is None else self.failure.model_dump(mode="json"),
        }
        recorded = [site for site in self._sites.values() if site.samples]
        storage = Storage(self._directory, "bundle", self._key)
        body = assemble(storage, self._spool, self._samples, self._calls, recorded, self._outputs, self.codec)
        files = body.pop("files")
        tail = {"environment": self.environment, "codec": self.codec, "encryption": self.encryption, "files": files}
        with create_file(storage.path(MANIFEST), storage.seal(MANIFEST)) as out:
            out.write(dump_json({**head, **body, **tail}))
        with storage_errors(self.path):
            self._spool.close()


def _common_rows(activations: Mapping[str, Activation]) -> int:
    """The number of rows that most activations have; the larger one where two are as frequent."""
    rows = [int(value.shape[0]) for value in activations.values() if len(value.shape) == 2]
    return max(set(rows), key=lambda count: (rows.count(count), count)) if rows else 0


def _environment() -> dict[str, str]:
    try:
        version = importlib.metadata.version("model-forensics")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed (source tree)"
    return {
        "model_forensics": version,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
    }
