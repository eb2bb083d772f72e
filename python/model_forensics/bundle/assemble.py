"""Puts the files of a bundle together from the spool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from model_forensics.bundle.coded import encode_file
from model_forensics.bundle.collect import Output, Place, SiteData
from model_forensics.bundle.schema import (
    ACTIVATIONS,
    CODED_SUFFIX,
    INPUTS,
    OFFSETS,
    OUTPUTS,
    SAMPLES,
    SITE_DTYPES,
    Codec,
)
from model_forensics.bundle.spool import Spool
from model_forensics.errors import UsageError
from model_forensics.files import (
    TAGS,
    EncryptionKey,
    Seal,
    Storage,
    TensorSource,
    create_file,
    dump_json,
    open_content,
    sha256_file,
    storage_errors,
    write_safetensors_sources,
)
from model_forensics.types import Sample

SHARD_BYTES = 1 << 30
SHARD_SITES = 4096
_INDEX_ITEM = 8  # the spool holds indices as int64


@dataclass
class Call:
    """The inputs of one batch."""

    number: int
    arrays: dict[str, npt.NDArray[Any]]
    rows: int | None  # batch size, null without inputs
    places: dict[str, Place] = field(default_factory=dict)
    shapes: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)  # safetensors dtype and shape

    @classmethod
    def checked(cls, inputs: Mapping[str, npt.NDArray[Any]], number: int) -> Self:
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, value in inputs.items():
            array = np.asarray(value)
            if not name or "/" in name or array.dtype.newbyteorder("<") not in TAGS:
                raise UsageError(
                    f"an input of dtype {array.dtype}", where=name, cure="Pass arrays of numbers; no '/' in the name"
                )
            arrays[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
        rows = [array.shape[0] for array in arrays.values() if array.ndim]
        return cls(number, arrays, max(rows) if rows else None)

    def store(self, spool: Spool) -> None:
        for name, array in self.arrays.items():
            self.places[name] = spool.append(array)
            self.shapes[name] = (TAGS[array.dtype], array.shape)
        self.arrays = {}

    def sources(self, spool: Spool) -> Iterator[TensorSource]:
        for name, (tag, shape) in self.shapes.items():
            yield TensorSource(f"call{self.number}/{name}", tag, shape, spool.pieces([self.places[name]]))


def assemble(
    storage: Storage,
    spool: Spool,
    samples: Sequence[Sample],
    calls: Sequence[Call],
    sites: Sequence[SiteData],
    outputs: Mapping[str, Output],
    codec: Codec,
) -> dict[str, Any]:
    """Write every file but the manifest; returns the manifest's sites, samples, calls, token_offsets and files."""
    files = _Files(storage, codec)
    with create_file(storage.path(SAMPLES), storage.seal(SAMPLES)) as out:
        for sample in samples:
            out.write(dump_json(sample.model_dump(mode="json"), indent=None))
    files.enter(SAMPLES, storage.path(SAMPLES), storage.seal(SAMPLES))
    with storage_errors(storage.root / ACTIVATIONS):
        (storage.root / ACTIVATIONS).mkdir()
    files.write(INPUTS, [source for call in calls for source in call.sources(spool)])
    files.write(OUTPUTS, _output_sources(spool, outputs, len(samples)))
    entries = _write_offsets(files, samples, sites)
    for number, shard in enumerate(_shards(sites)):
        name = f"{ACTIVATIONS}/{number:03d}.safetensors"
        files.write(name, [source for place in shard for source in _site_sources(spool, sites[place])])
        for place in shard:
            entries[place]["file"] = name
    return {
        "sites": entries,
        "samples": len(samples),
        "calls": len(calls),
        "token_offsets": _offsets([sample.tokens for sample in samples]).tolist(),
        "files": {name: files.entries[name] for name in sorted(files.entries)},
    }


class _Files:
    """Writes tensor files as codec and encryption store them, and notes the size and digest of their content."""

    def __init__(self, storage: Storage, codec: Codec) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self._storage = storage
        self._codec = codec
        # What is read again and removed is encrypted as well, with a key that nobody keeps.
        self._scratch = None if storage.key is None else Seal(EncryptionKey.random(), "scratch")

    def write(self, name: str, sources: Sequence[TensorSource]) -> None:
        storage = self._storage
        if self._codec == "none":
            write_safetensors_sources(storage.path(name), sources, seal=storage.seal(name))
            self.enter(name, storage.path(name), storage.seal(name))
            return
        plain, coded = storage.root / name, name + CODED_SUFFIX
        write_safetensors_sources(plain, sources, seal=self._scratch)
        self.enter(name, plain, self._scratch)
        with create_file(storage.path(coded), storage.seal(coded)) as out:
            encode_file(plain, out, seal=self._scratch)
        plain.unlink()

    def enter(self, name: str, path: Path, seal: Seal | None) -> None:
        self.entries[name] = {"sha256": sha256_file(path, seal=seal), "bytes": open_content(path, seal).size}


def _write_offsets(files: _Files, samples: Sequence[Sample], sites: Sequence[SiteData]) -> list[dict[str, Any]]:
    """Manifest entries of the sites, and the file with the offsets that not all sites share."""
    everyone = list(range(len(samples)))
    tokens = [sample.tokens for sample in samples]
    rows: list[npt.NDArray[np.int64]] = []
    present: list[npt.NDArray[np.bool_]] = []
    entries: list[npt.NDArray[np.int64]] = []
    described = []
    for site in sites:
        shared = site.samples == everyone and site.rows == tokens
        described.append(
            {
                **site.info.model_dump(mode="json"),
                "file": None,
                "rows": None if shared else len(rows),
                "entries": len(entries) if site.info.layout == "sparse" else None,
            }
        )
        if not shared:
            rows.append(_scattered(site.samples, site.rows, len(samples)))
            present.append(np.isin(everyone, site.samples))
        if site.info.layout == "sparse":
            entries.append(_scattered(site.samples, site.entries, len(samples)))
    sources = []
    if rows:
        sources.append(_small("rows", np.stack(rows)))
        sources.append(_small("present", np.stack(present)))
    if entries:
        sources.append(_small("entries", np.stack(entries)))
    if sources:
        files.write(OFFSETS, sources)
    return described


def _shards(sites: Sequence[SiteData]) -> Iterator[list[int]]:
    shard: list[int] = []
    size = 0
    for place, site in enumerate(sites):
        nbytes = sum(length for _, length in (*site.places, *site.index_places))
        if shard and (size + nbytes > SHARD_BYTES or len(shard) >= SHARD_SITES):
            yield shard
            shard, size = [], 0
        shard.append(place)
        size += nbytes
    if shard:
        yield shard


def _site_sources(spool: Spool, site: SiteData) -> Iterator[TensorSource]:
    name, features = site.info.name, site.info.features
    tag, _ = SITE_DTYPES[site.info.dtype]
    if site.info.layout == "dense":
        yield TensorSource(name, tag, (sum(site.rows), features), spool.pieces(site.places))
        return
    count = sum(site.entries)
    yield TensorSource(f"{name}/values", tag, (count,), spool.pieces(site.places))
    index_tag = "U16" if site.largest_index < 1 << 16 else "U32" if site.largest_index < 1 << 32 else "I64"
    yield TensorSource(f"{name}/indices", index_tag, (count,), _narrowed(spool, site.index_places, index_tag))


def _narrowed(spool: Spool, places: list[Place], tag: str) -> Iterator[bytes]:
    dtype = {"U16": "<u2", "U32": "<u4", "I64": "<i8"}[tag]
    rest = b""
    for piece in spool.pieces(places):
        data = rest + piece
        whole = len(data) - len(data) % _INDEX_ITEM
        yield np.frombuffer(data[:whole], "<i8").astype(dtype).tobytes()
        rest = data[whole:]


def _output_sources(spool: Spool, outputs: Mapping[str, Output], samples: int) -> list[TensorSource]:
    sources = []
    for name, output in outputs.items():
        offsets = _scattered(list(output.rows), list(output.rows.values()), samples)
        shape = (int(offsets[-1]), *output.tail)
        sources.append(TensorSource(name, TAGS[output.dtype], shape, spool.pieces(output.places)))
        sources.append(_small(f"{name}/offsets", offsets))
    return sources


def _small(name: str, array: npt.NDArray[Any]) -> TensorSource:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return TensorSource(name, TAGS[little.dtype], little.shape, [little.tobytes()])


def _scattered(samples: Sequence[int], counts: Sequence[int], total: int) -> npt.NDArray[np.int64]:
    """Offsets [total + 1] over all samples, where only some have any."""
    full = np.zeros(total, np.int64)
    full[list(samples)] = counts
    return _offsets(full)


def _offsets(counts: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(np.asarray(counts, np.int64), out=offsets[1:])
    return offsets
