"""Reading a bundle, which is not trusted: everything is checked before memory is taken or data is used."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.bundle import checks
from model_forensics.bundle.schema import (
    INPUTS,
    MANIFEST,
    OFFSETS,
    OUTPUTS,
    SAMPLES,
    Manifest,
    SiteEntry,
    content_digest,
    parse_manifest,
    parse_samples,
)
from model_forensics.bundle.together import read_together, refuse_bad_indices
from model_forensics.errors import BundleError, BundleFormatError, EncryptionError, UnknownSite, UsageError
from model_forensics.failure import Failure
from model_forensics.files import EncryptionKey, Storage, holds, read_content, widen_bfloat16
from model_forensics.types import BundleKind, ModelReference, Sample, SiteInfo, Sparse

_MAX_TEXT_BYTES = 256 << 20


def load_bundle(path: Path | str, *, verify: bool = True, key: EncryptionKey | None = None) -> Bundle:
    """Open a bundle. Activations stay on disk until they are asked for; the result may be used by several threads.

    Args:
        path: the bundle's directory.
        verify: compare the digest of every file with the manifest. Everything else is checked in any case.
        key: what an encrypted bundle is encrypted with; by default the process's, see `files.encryption_key`.

    Raises:
        BundleFormatError: fields, names, sizes, shapes, offsets or counts that are missing or wrong.
        BundleVersionError: a format version, codec or encryption that this release does not read.
        BundleDigestError: stored bytes differ from the manifest.
        UnsafeFileError: links, pickles, devices, names that leave the bundle.
        OutputError: an output holds NaN or infinity, and the failure is not `nonfinite`.
        EncryptionError: it is encrypted, and the key is missing or another one, or a file was altered.
    """
    root = Path(path)
    seen = _which(root)
    try:
        return _load(root, verify, key)
    except (BundleError, EncryptionError):
        if _which(root) == seen:
            raise
    return _load(root, verify, key)  # another one took its place meanwhile, whole, as by `compress-bundles`, `rekey`


def _which(root: Path) -> tuple[int, int] | None:
    """Which directory has the name now; None where there is none."""
    try:
        status = os.stat(root)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _load(root: Path, verify: bool, key: EncryptionKey | None) -> Bundle:
    try:
        found = checks.check_directory(root)
        storage = Storage.of(root, "bundle", MANIFEST, key)
        stored = read_whole(storage, MANIFEST)
        manifest = parse_manifest(stored, str(storage.path(MANIFEST)))
        checks.check_listed(storage, found, manifest)
    except (OSError, ValueError) as problem:  # unreadable directory, NUL in the path
        raise BundleFormatError(
            f"cannot be read: {problem}", where=repr(str(root)), cure="Check the path and its permissions"
        ) from problem
    if verify:
        checks.check_digests(storage, manifest)
    return Bundle(storage, manifest, content_digest(stored))


def manifest_digest(path: Path | str) -> str:
    """`Bundle.content_digest` of a bundle, whose manifest alone is read and checked.

    Raises:
        BundleError: as `load_bundle`, of the manifest.
    """
    return content_digest(read_manifest(Path(path))[1])


def load_bundles(path: Path | str, *, verify: bool = True) -> list[Bundle]:
    """Open one bundle, or all bundles of a directory, sorted by name. Errors are those of `load_bundle`."""
    return [load_bundle(place, verify=verify) for place in find_bundles(path)]


def is_bundle(path: Path | str) -> bool:
    """Whether a manifest is there, plain or encrypted; it is not looked at."""
    return holds(path, MANIFEST)


def find_bundles(path: Path | str) -> list[Path]:
    """Paths of the bundles that `load_bundles` would open: `path` itself, or its subdirectories, sorted by name.

    Subdirectories without any file of a bundle, and hidden ones (unfinished writes), are not bundles.

    Raises:
        BundleFormatError: neither a bundle nor a directory with bundles.
    """
    directory, names = find_bundle_names(path)
    return [directory / name for name in names]


def find_bundle_names(path: Path | str) -> tuple[Path, list[str]]:
    """As `find_bundles`: the directory that the bundles are in, and their names; 200,000 in a second."""
    root = Path(path)
    if is_bundle(root):
        root = root if root.name else root.resolve()
        return root.parent, [root.name]
    if not root.is_dir():
        what = "not a directory" if root.exists() else "there is no such directory"
        raise BundleFormatError(what, where=root, cure="Give a bundle, or a directory of bundles")
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_bundle(entry))
    except OSError as problem:
        raise BundleFormatError(
            f"cannot be read: {problem.strerror}", where=root, cure="Check the directory's permissions"
        ) from problem
    if not names:
        raise BundleFormatError(
            "there are no bundles in it", where=root, cure="Give a bundle, or a directory of bundles"
        )
    return root, names


class Bundle:
    """A checked bundle; implements `types.Recording`. Made by `load_bundle`."""

    def __init__(self, storage: Storage, manifest: Manifest, digest: str) -> None:
        self._storage = storage
        self._path = storage.root
        self._content_digest = digest
        self.manifest = manifest
        place = storage.path(SAMPLES)
        self._samples = parse_samples(read_whole(storage, SAMPLES), str(place), manifest.samples)
        checks.check_samples(self._samples, manifest, place)
        self._inputs = checks.open_tensors(storage, INPUTS, manifest)
        self._calls = checks.check_inputs(self._inputs, manifest, self._samples)
        self._outputs = checks.open_tensors(storage, OUTPUTS, manifest)
        self._output_offsets = checks.check_outputs(self._outputs, manifest)
        table = checks.open_tensors(storage, OFFSETS, manifest) if OFFSETS in manifest.files else None
        self._offsets = checks.Offsets(manifest, table, storage)
        shards = [name for name in manifest.files if name.startswith("activations/") and name != OFFSETS]
        self._shards = {name: checks.open_tensors(storage, name, manifest) for name in shards}
        checks.check_sites(manifest, self._shards, self._offsets)
        self._entries = {site.name: site for site in manifest.sites}
        self._sites = MappingProxyType({site.name: site.info() for site in manifest.sites})

    def __repr__(self) -> str:
        return f"Bundle({str(self._path)!r}, {self.kind}, {len(self._samples)} samples, {len(self._sites)} sites)"

    @property
    def bundle_id(self) -> str:
        return self.manifest.bundle_id

    @property
    def kind(self) -> BundleKind:
        return self.manifest.kind

    @property
    def created_at(self) -> datetime:
        return self.manifest.created_at

    @property
    def path(self) -> Path:
        return self._path

    @property
    def content_digest(self) -> str:
        return self._content_digest

    @property
    def model(self) -> ModelReference | None:
        return self.manifest.model

    @property
    def failure(self) -> Failure | None:
        return self.manifest.failure

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self._samples

    @property
    def sites(self) -> Mapping[str, SiteInfo]:
        return self._sites

    @property
    def bytes(self) -> int:
        """Size of all files on disk, the manifest included."""
        names = [MANIFEST, *(self.manifest.stored_name(name) for name in self.manifest.files)]
        return sum(self._storage.path(name).stat().st_size for name in names)

    @property
    def content_bytes(self) -> int:
        """Size of what the listed files hold when decoded; without a codec, their size on disk."""
        return sum(entry.bytes for entry in self.manifest.files.values())

    @property
    def activation_bytes(self) -> int:
        """The part of `content_bytes` that is activations."""
        return sum(self.manifest.files[name].bytes for name in self._shards)

    def has_activation(self, site: str, sample: int) -> bool:
        """Whether this sample recorded this site; False for a site that the bundle does not have.

        Raises:
            UsageError: no such sample.
        """
        self._check_sample(sample)
        entry = self._entries.get(site)
        return entry is not None and (entry.rows is None or bool(self._offsets.present[entry.rows, sample]))

    def activation(self, site: str, sample: int) -> npt.NDArray[Any] | Sparse:
        """[rows, features] of one sample; bfloat16 widened to float32 (exact), others as stored. Read-only.

        Raises:
            UnknownSite: the bundle, or this sample, does not have the site.
            UsageError: no such sample.
            BundleFormatError: sparse indices out of order or range, or the file changed since it was loaded.
        """
        entry, values, indices, shape = self._parts(site, sample)
        if entry.dtype == "bfloat16":
            values = widen_bfloat16(values)
        return values if indices is None else Sparse(values, indices, shape)

    def recorded_activations(self, sites: Sequence[str], sample: int) -> Mapping[str, npt.NDArray[Any] | Sparse]:
        """`activation` of those of `sites` that this sample recorded: many of them are read faster together.

        Raises:
            UsageError: no such sample.
            BundleFormatError: as `activation`.
        """
        self._check_sample(sample)
        present = self._offsets.present[:, sample].tolist()
        known = [self._entries[site] for site in sites if site in self._entries]
        recorded = [entry for entry in known if entry.rows is None or present[entry.rows]]
        return read_together(recorded, sample, self._offsets, self._shards)

    def largest_entries(self, site: str) -> int:
        """Values that the sample with the most of them recorded at this site; 0 for a site that the bundle lacks."""
        entry = self._entries.get(site)
        if entry is None:
            return 0
        if entry.entries is not None:
            return int(np.diff(self._offsets.entries[entry.entries]).max(initial=0))
        return int(np.diff(self._offsets.of(entry)).max(initial=0)) * entry.features

    def release_memory(self) -> None:
        """Give back the memory of what was read of the tensor files; what is asked for again is read again."""
        for tensors in (self._inputs, self._outputs, *self._shards.values()):
            tensors.release_memory()

    @property
    def kept_bytes(self) -> int:
        """Memory that is kept of what was read after `release_memory`, of all bundles stored in this way."""
        return max(shard.kept_bytes for shard in (self._inputs, self._outputs, *self._shards.values()))

    def raw(self, site: str, sample: int) -> npt.NDArray[Any] | Sparse:
        """As `activation`, but bfloat16 comes as uint16 bit patterns: exactly the stored bits."""
        _, values, indices, shape = self._parts(site, sample)
        return values if indices is None else Sparse(values, indices, shape)

    def _parts(
        self, site: str, sample: int
    ) -> tuple[SiteEntry, npt.NDArray[Any], npt.NDArray[np.int64] | None, tuple[int, int]]:
        """The site, stored values, indices (None where it is dense) and shape of the full activation."""
        entry = self._recorded(site, sample)
        start, stop = self._offsets.of(entry)[sample : sample + 2].tolist()
        shape = (stop - start, entry.features)
        tensors = self._shards[entry.file]
        if entry.entries is None:
            return entry, tensors.rows(site, start, stop), None, shape
        first, last = self._offsets.entries[entry.entries, sample : sample + 2].tolist()
        values = tensors.rows(f"{site}/values", first, last)
        indices = tensors.rows(f"{site}/indices", first, last).astype(np.int64)
        refuse_bad_indices(indices, [len(indices)], [shape], [site], sample, tensors)
        return entry, values, indices, shape

    def inputs(self, call: int) -> Mapping[str, npt.NDArray[Any]]:
        """The model's keyword inputs of one batch, exactly as passed; empty where none were recorded. Read-only.

        Raises:
            UsageError: no such call.
        """
        if not 0 <= call < self.manifest.calls:
            raise UsageError(f"no call {call}", where=self._path, cure=f"Give 0 to {self.manifest.calls - 1}")
        return {name: self._inputs.array(tensor) for name, tensor in self._calls.get(call, {}).items()}

    def outputs(self, sample: int) -> Mapping[str, npt.NDArray[Any]]:
        """Recorded outputs of one sample, each [rows, ...]; those that it lacks are left out. Read-only.

        Raises:
            UsageError: no such sample.
        """
        self._check_sample(sample)
        outputs = {}
        for name, offsets in self._output_offsets.items():
            start, stop = int(offsets[sample]), int(offsets[sample + 1])
            if stop > start:
                value = self._outputs.rows(name, start, stop)
                outputs[name] = widen_bfloat16(value) if self._outputs.dtype(name) == "BF16" else value
        return outputs

    def describe(self) -> dict[str, Any]:
        """What `inspect` shows: the manifest in short, as JSON values."""
        manifest = self.manifest
        return {
            "path": str(self._path),
            "bundle_id": manifest.bundle_id,
            "format_version": manifest.format_version,
            "kind": manifest.kind,
            "created_at": manifest.created_at.isoformat(),
            "model": None
            if manifest.model is None
            else manifest.model.model_dump(mode="json", exclude={"tensor_digests"}),
            "failure": None if manifest.failure is None else manifest.failure.in_words(),
            "samples": len(self._samples),
            "groups": len({sample.group for sample in self._samples}),
            "calls": manifest.calls,
            "tokens": manifest.token_offsets[-1],
            "inputs": sorted({name for names in self._calls.values() for name in names}),
            "outputs": {name: list(self._outputs.shape(name)[1:]) for name in self._output_offsets},
            "sites": [self._describe_site(site) for site in manifest.sites],
            "codec": manifest.codec,
            "encryption": manifest.encryption,
            "bytes": self.bytes,
            "content_bytes": self.content_bytes,
            "activation_bytes": self.activation_bytes,
            "environment": dict(manifest.environment),
        }

    def _describe_site(self, site: SiteEntry) -> dict[str, Any]:
        present = len(self._samples) if site.rows is None else int(self._offsets.present[site.rows].sum())
        return {
            **self._sites[site.name].model_dump(mode="json"),
            "samples": present,
            "rows": int(self._offsets.of(site)[-1]),
            "entries": None if site.entries is None else int(self._offsets.entries[site.entries, -1]),
        }

    def _recorded(self, site: str, sample: int) -> SiteEntry:
        if not self.has_activation(site, sample):
            if site in self._entries:
                raise UnknownSite(
                    f"sample {sample} did not record the site {site!r}",
                    where=self._path,
                    cure="Choose another sample or site",
                )
            nearest = get_close_matches(site, self._entries, n=3, cutoff=0.4)
            cure = f"Nearest names: {', '.join(nearest)}" if nearest else "`model-forensics inspect` lists the sites"
            raise UnknownSite(f"the bundle has no site {site!r}", where=self._path, cure=cure)
        return self._entries[site]

    def _check_sample(self, sample: int) -> None:
        if not 0 <= sample < len(self._samples):
            raise UsageError(f"no sample {sample}", where=self._path, cure=f"Give 0 to {len(self._samples) - 1}")


def _is_bundle(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir():
        return False
    if os.path.lexists(f"{entry.path}/{MANIFEST}"):  # as a rule, of hundreds of thousands
        return True
    return any(holds(entry.path, name) for name in (MANIFEST, SAMPLES, INPUTS, OUTPUTS))


def read_manifest(path: Path) -> tuple[Manifest, bytes]:
    """The checked manifest of a bundle, and what is stored of it; nothing else is looked at.

    Raises:
        BundleError: as `load_bundle`, of the manifest.
        EncryptionError: as `load_bundle`.
    """
    storage = Storage.of(path, "bundle", MANIFEST)
    stored = read_whole(storage, MANIFEST)
    return parse_manifest(stored, str(storage.path(MANIFEST))), stored


def read_whole(storage: Storage, name: str) -> bytes:
    """The content of a manifest or of `samples.jsonl`. Raises as `Storage.open`; BundleFormatError: too large."""
    content = storage.open(name)
    if content.size > _MAX_TEXT_BYTES:
        raise BundleFormatError(
            f"{content.size:,} bytes; at most {_MAX_TEXT_BYTES:,} are read",
            where=content.path,
            cure="Split the recording",
        )
    return read_content(content)
