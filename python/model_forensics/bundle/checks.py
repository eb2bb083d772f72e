"""Checks of a bundle's files against its manifest. Nothing here reads tensor data except to digest it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model_forensics.bundle.coded import CodedTensors, open_coded
from model_forensics.bundle.collect import refuse_nonfinite
from model_forensics.bundle.schema import (
    ACTIVATIONS,
    CURE,
    INDEX_TAGS,
    INPUTS,
    MANIFEST,
    MAX_FILES,
    MAX_OUTPUTS,
    OFFSETS,
    OUTPUTS,
    SITE_DTYPES,
    Manifest,
    SiteEntry,
)
from model_forensics.errors import BundleDigestError, BundleFormatError, UnsafeFileError
from model_forensics.files import (
    MAX_TENSORS,
    SEALED_SUFFIX,
    SafeTensors,
    Storage,
    content_size,
    open_regular,
    open_safetensors,
    sha256_file,
)
from model_forensics.types import Sample

Tensors = SafeTensors | CodedTensors

_CHECKED_ITEMS: Final = 1 << 20
_OUTPUT_BRACES: Final = 4 * MAX_OUTPUTS  # an output is two tensors; one brace in each name
_INSTALLED: Final = Path(__file__).resolve().parents[1]  # installers share files of packages by hard links
_PICKLE_SUFFIXES: Final = {
    ".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".zip",
}  # fmt: skip
_PICKLE_STARTS: Final = (b"PK\x03\x04", b"PK\x05\x06", *(bytes([0x80, protocol]) for protocol in range(6)))


def check_directory(root: Path) -> set[str]:
    """Names of all files of the bundle, relative, with '/'. Links, pickles and strange things are refused.

    Raises:
        BundleFormatError: no directory, no manifest, a directory that does not belong.
        UnsafeFileError: a symbolic or hard link anywhere, a device or pipe, a pickle or an archive that may hold one.
    """
    if root.is_symlink():
        raise UnsafeFileError("a symbolic link", where=root, cure="Give the path of the bundle itself")
    if not root.is_dir():
        what = "not a directory" if root.exists() else "there is no such directory"
        raise BundleFormatError(what, where=root, cure="Give the path of a bundle's directory")
    found: set[str] = set()
    _collect(root, "", found)
    if not found & {MANIFEST, MANIFEST + SEALED_SUFFIX}:
        raise BundleFormatError(f"{MANIFEST} is missing", where=root, cure="Give the path of a bundle's directory")
    return found


def check_listed(storage: Storage, found: set[str], manifest: Manifest) -> None:
    """The files on disk are exactly those that the manifest lists, of the sizes that it lists.

    Raises:
        BundleFormatError: a file too few, too many, or of another size; an encryption other than the files'.
    """
    if (manifest.encryption != "none") != (storage.key is not None):
        what = f"encryption is {manifest.encryption!r}, which is not how this file is stored"
        raise BundleFormatError(what, where=storage.path(MANIFEST), cure=CURE)
    stored = {storage.name(manifest.stored_name(name)) for name in manifest.files}
    for name in sorted(found - stored - {storage.name(MANIFEST)}):
        raise BundleFormatError("the manifest does not list this file", where=storage.root / name, cure="Remove it")
    for name, entry in manifest.files.items():
        path = storage.path(manifest.stored_name(name))
        if storage.name(manifest.stored_name(name)) not in found:
            raise BundleFormatError("the file is missing", where=path, cure=CURE)
        if manifest.is_coded(name):
            continue  # its content's size is checked when it is opened
        size = path.lstat().st_size if storage.key is None else content_size(path.lstat().st_size)
        if size != entry.bytes:
            what = "no" if size is None else f"{size:,}"
            raise BundleFormatError(
                f"{what} bytes instead of the {entry.bytes:,} that the manifest lists", where=path, cure=CURE
            )


def check_digests(storage: Storage, manifest: Manifest) -> None:
    """Raises BundleDigestError where the content differs from the manifest, BundleFormatError where it is damaged."""
    for name, entry in manifest.files.items():
        stored = manifest.stored_name(name)
        path, seal = storage.path(stored), storage.seal(stored)
        coded = manifest.is_coded(name)
        most = most_tensors(manifest, name)
        tensors = open_coded(path, entry.bytes, seal, most=most) if coded else None
        digest = sha256_file(path, seal=seal) if tensors is None else tensors.content_digest()
        if digest != entry.sha256:
            raise BundleDigestError(
                f"the content's digest is {digest}, the manifest lists {entry.sha256}", where=path, cure=CURE
            )


def open_tensors(storage: Storage, name: str, manifest: Manifest) -> Tensors:
    """Open a tensor file of the manifest, plain or coded. Raises as `open_safetensors` and `open_coded`."""
    stored, most = manifest.stored_name(name), most_tensors(manifest, name)
    if manifest.is_coded(name):
        return open_coded(storage.path(stored), manifest.files[name].bytes, storage.seal(stored), most=most)
    return open_safetensors(storage.path(stored), seal=storage.seal(stored), most=most)


def most_tensors(manifest: Manifest, name: str) -> int:
    """Opening braces that a tensor file's header may have, so that it can be refused before it is parsed."""
    if name == INPUTS:
        return MAX_TENSORS
    return _OUTPUT_BRACES if name in (OUTPUTS, OFFSETS) else manifest.braces.get(name, 0)


def check_samples(samples: tuple[Sample, ...], manifest: Manifest, where: Path) -> None:
    """Raises BundleFormatError where the samples and the manifest, which agree in their number, disagree."""
    offsets = manifest.token_offsets
    ids: set[str] = set()
    rows: set[tuple[int, int]] = set()
    for number, sample in enumerate(samples):
        place = f"{where}:{number + 1}"
        if sample.tokens != offsets[number + 1] - offsets[number]:
            raise BundleFormatError("tokens disagrees with the manifest's token_offsets", where=place, cure=CURE)
        if sample.call >= manifest.calls:
            raise BundleFormatError(f"call {sample.call} of {manifest.calls}", where=place, cure=CURE)
        if sample.sample_id in ids or (sample.call, sample.row) in rows:
            raise BundleFormatError("the sample_id, or the row of the call, occurs twice", where=place, cure=CURE)
        ids.add(sample.sample_id)
        rows.add((sample.call, sample.row))


def check_inputs(tensors: Tensors, manifest: Manifest, samples: tuple[Sample, ...]) -> dict[int, dict[str, str]]:
    """Tensor names of each call's inputs: call → input name → tensor name.

    Raises:
        BundleFormatError: a name that is not call<number>/<input>, or a sample's row outside its call.
    """
    calls: dict[int, dict[str, str]] = {}
    rows: dict[int, int] = {}
    numbers = {f"call{number}": number for number in range(manifest.calls)} if tensors.names else {}
    for tensor in tensors.names:
        prefix, _, name = tensor.partition("/")
        if prefix not in numbers or not name or "/" in name:
            raise BundleFormatError(
                f"tensor {tensor!r} is not named call<0…{manifest.calls - 1}>/<input>", where=tensors.path, cure=CURE
            )
        call = numbers[prefix]
        calls.setdefault(call, {})[name] = tensor
        shape = tensors.shape(tensor)
        rows[call] = max(rows.get(call, 0), shape[0] if shape else 0)
    for sample in samples:
        if sample.call in calls and sample.row >= (rows[sample.call] or 1):
            raise BundleFormatError(
                f"sample {sample.sample_id!r} is row {sample.row} of a call with {rows[sample.call]} rows",
                where=tensors.path,
                cure=CURE,
            )
    return calls


def check_outputs(tensors: Tensors, manifest: Manifest) -> dict[str, npt.NDArray[np.int64]]:
    """Offsets [samples + 1] of each output.

    Raises:
        BundleFormatError: an output without fitting offsets.
        OutputError: NaN or infinity, unless the failure is `nonfinite`.
    """
    offsets: dict[str, npt.NDArray[np.int64]] = {}
    for name in tensors.names:
        if name.endswith("/offsets") and name.removesuffix("/offsets") in tensors:
            continue
        if not tensors.shape(name) or "/" in name:
            raise BundleFormatError(f"output {name!r} is not [rows, ...]", where=tensors.path, cure=CURE)
        table = _offsets_tensor(tensors, f"{name}/offsets", (manifest.samples + 1,))
        _check_offsets(table[None, :], f"{name}/offsets", tensors.path)
        if table[-1] != tensors.shape(name)[0]:
            raise BundleFormatError(f"{name}/offsets do not end at the last row", where=tensors.path, cure=CURE)
        offsets[name] = table
        if manifest.failure is None or manifest.failure.kind != "nonfinite":
            where = f"{tensors.path} ({name})"
            rows = int(table[-1])
            step = max(1, _CHECKED_ITEMS * rows // max(1, math.prod(tensors.shape(name))))
            for first in range(0, rows, step):  # a part at a time: a coded output need not fit into memory
                part = tensors.rows(name, first, min(rows, first + step))
                refuse_nonfinite(part, where, bfloat16=tensors.dtype(name) == "BF16")
                if step < rows:
                    tensors.release_memory()
    return offsets


class Offsets:
    """Row and entry offsets of all sites, checked.

    Raises:
        BundleFormatError: missing or wrong tables.
    """

    def __init__(self, manifest: Manifest, tensors: Tensors | None, storage: Storage) -> None:
        samples = manifest.samples
        own_rows = [site.rows for site in manifest.sites if site.rows is not None]
        own_entries = [site.entries for site in manifest.sites if site.entries is not None]
        for field, used in (("rows", own_rows), ("entries", own_entries)):
            if sorted(used) != list(range(len(used))):
                raise BundleFormatError(
                    f"the sites' {field} must number 0 to {len(used) - 1}, each once",
                    where=storage.path(MANIFEST),
                    cure=CURE,
                )
        expected = {"rows": bool(own_rows), "present": bool(own_rows), "entries": bool(own_entries)}
        names = {name for name, needed in expected.items() if needed}
        if (tensors is not None) != bool(names) or (tensors is not None and set(tensors.names) != names):
            what = f"must hold exactly {sorted(names)}" if names else "no site needs this file"
            raise BundleFormatError(what, where=storage.path(OFFSETS), cure=CURE)
        self.shared = np.array(manifest.token_offsets, np.int64)
        self.rows = self.entries = np.zeros((0, samples + 1), np.int64)
        self.present = np.zeros((0, samples), np.bool_)
        if tensors is None:
            return
        if own_rows:
            self.rows = _offsets_tensor(tensors, "rows", (len(own_rows), samples + 1))
            _check_offsets(self.rows, "rows", tensors.path)
            self.present = _present_tensor(tensors, (len(own_rows), samples))
            if (np.diff(self.rows, axis=1)[~self.present] != 0).any():
                raise BundleFormatError("rows of a sample that is not present", where=tensors.path, cure=CURE)
        if own_entries:
            self.entries = _offsets_tensor(tensors, "entries", (len(own_entries), samples + 1))
            _check_offsets(self.entries, "entries", tensors.path)

    def of(self, site: SiteEntry) -> npt.NDArray[np.int64]:
        """Row offsets [samples + 1] of a site."""
        return self.shared if site.rows is None else self.rows[site.rows]


def check_sites(manifest: Manifest, shards: dict[str, Tensors], offsets: Offsets) -> None:
    """Every tensor of the activation files belongs to a site and has the dtype and shape that the site says.

    Raises:
        BundleFormatError: a tensor too few, too many, or that does not fit.
    """
    expected: dict[str, int] = dict.fromkeys(shards, 0)
    for site in manifest.sites:
        tensors = shards[site.file]
        tag, _ = SITE_DTYPES[site.dtype]
        if site.entries is None:
            rows = int(offsets.of(site)[-1])
            _check_tensor(tensors, site.name, (tag,), (rows, site.features))
            expected[site.file] += 1
        else:
            count = int(offsets.entries[site.entries][-1])
            _check_tensor(tensors, f"{site.name}/values", (tag,), (count,))
            _check_tensor(tensors, f"{site.name}/indices", INDEX_TAGS, (count,))
            expected[site.file] += 2
    for name, count in expected.items():
        if len(shards[name].names) != count or not count:
            raise BundleFormatError(
                f"{len(shards[name].names)} tensors for {count} that the manifest's sites need",
                where=shards[name].path,
                cure=CURE,
            )


def _collect(folder: Path, prefix: str, found: set[str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            shown = repr(str(path)) if not entry.name.isprintable() else str(path)
            if entry.is_symlink():
                raise UnsafeFileError("a symbolic link, which is never followed", where=shown, cure="Remove the link")
            if entry.is_dir(follow_symlinks=False):
                if prefix or entry.name != ACTIVATIONS:
                    raise BundleFormatError("a directory that has no place here", where=shown, cure="Remove it")
                _collect(path, f"{ACTIVATIONS}/", found)
                continue
            if not entry.is_file(follow_symlinks=False):
                raise UnsafeFileError("not a regular file", where=shown, cure="Remove it")
            if entry.stat(follow_symlinks=False).st_nlink > 1 and not folder.resolve().is_relative_to(_INSTALLED):
                raise UnsafeFileError(
                    "a hard link: the file has another name too, through which it could be changed or is shared",
                    where=shown,
                    cure="Copy the bundle with `cp -r` and use the copy, whose files are its own; backups by hard links"
                    " (`cp -al`, rsnapshot) do this to the original too",
                )
            _refuse_pickle(path, shown)
            found.add(prefix + entry.name)
            if len(found) > MAX_FILES:
                raise BundleFormatError(f"more than {MAX_FILES:,} files", where=folder, cure="Remove what was added")


def _refuse_pickle(path: Path, shown: str) -> None:
    with open_regular(path) as descriptor:
        start = os.read(descriptor, 4)
    # A safetensors file begins with its header's size: 80 02 00 00 is a header of 640 bytes, not a pickle.
    by_content = start.startswith(_PICKLE_STARTS) and path.suffix != ".safetensors"
    if path.suffix.lower() in _PICKLE_SUFFIXES or by_content or start.startswith(b"PK\x03\x04"):
        raise UnsafeFileError(
            "a pickle, or an archive that may hold one; bundles never contain them",
            where=shown,
            cure="Remove the file; do not open it",
        )


def _check_tensor(tensors: Tensors, name: str, tags: tuple[str, ...], shape: tuple[int, ...]) -> None:
    entry = tensors.entry(name)
    if entry.tag not in tags or entry.shape != shape:
        raise BundleFormatError(
            f"tensor {name!r} is {entry.tag} {list(entry.shape)} instead of {' or '.join(tags)} {list(shape)}",
            where=tensors.path,
            cure=CURE,
        )


def _offsets_tensor(tensors: Tensors, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    _check_tensor(tensors, name, ("I64",), shape)
    return tensors.array(name)


def _present_tensor(tensors: Tensors, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    _check_tensor(tensors, "present", ("BOOL",), shape)
    stored: npt.NDArray[Any] = tensors.array("present").view(np.uint8)
    if (stored > 1).any():
        raise BundleFormatError("present must hold 0 and 1 only", where=tensors.path, cure=CURE)
    present: npt.NDArray[np.bool_] = stored != 0
    return present


def _check_offsets(table: npt.NDArray[np.int64], name: str, where: Path) -> None:
    """Each row of [k, samples + 1] begins with 0 and never decreases."""
    # Compared, not subtracted: a difference of hostile numbers can wrap around.
    if (table[:, 0] != 0).any() or (table[:, 1:] < table[:, :-1]).any():
        raise BundleFormatError(f"{name} must begin with 0 and never decrease", where=where, cure=CURE)
