"""All activations of a sample in one go: a few calls, where site by site Python would take most of the time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model_forensics.bundle.checks import Offsets, Tensors
from model_forensics.bundle.schema import CURE, SiteEntry
from model_forensics.errors import BundleFormatError
from model_forensics.files import widen_bfloat16
from model_forensics.types import Sparse

Integers = npt.NDArray[np.int64]
Shape = tuple[int, int]  # (rows, features)
_LARGEST = int(np.iinfo(np.int64).max)


class _Part(NamedTuple):
    """Rows [start, stop) of a tensor that holds values or indices of a site, `items` of them."""

    site: SiteEntry
    tensor: str
    start: int
    stop: int
    items: int


def read_together(
    sites: Sequence[SiteEntry], sample: int, offsets: Offsets, shards: Mapping[str, Tensors]
) -> dict[str, npt.NDArray[Any] | Sparse]:
    """[rows, features] or `Sparse` of each site, all of which the sample recorded; bfloat16 widened. Read-only.

    Raises:
        BundleFormatError: sparse indices out of order or range, or a file changed since it was opened.
    """
    of_sample = slice(sample, sample + 2)
    shared, own = offsets.shared[of_sample].tolist(), offsets.rows[:, of_sample].tolist()
    entries = offsets.entries[:, of_sample].tolist()
    shapes: dict[str, Shape] = {}
    values: list[_Part] = []
    indices: list[_Part] = []
    for site in sites:
        start, stop = shared if site.rows is None else own[site.rows]
        shapes[site.name] = (stop - start, site.features)
        if site.entries is None:
            values.append(_Part(site, site.name, start, stop, (stop - start) * site.features))
        else:
            first, last = entries[site.entries]
            values.append(_Part(site, f"{site.name}/values", first, last, last - first))
            indices.append(_Part(site, f"{site.name}/indices", first, last, last - first))
    places: dict[str, Integers] = {}
    for tensors, parts in _by_dtype(indices, shards):
        joined, starts = _join(tensors, parts)
        joined = joined.astype(np.int64)
        names = [part.site.name for part in parts]
        refuse_bad_indices(joined, starts, [shapes[name] for name in names], names, sample, tensors)
        places.update(zip(names, _cut(joined, starts), strict=True))
    found: dict[str, npt.NDArray[Any] | Sparse] = {}
    for tensors, parts in _by_dtype(values, shards):
        joined, starts = _join(tensors, parts)
        joined = widen_bfloat16(joined) if parts[0].site.dtype == "bfloat16" else joined
        for part, piece in zip(parts, _cut(joined, starts), strict=True):
            name = part.site.name
            shape = shapes[name]
            found[name] = piece.reshape(shape) if part.site.entries is None else Sparse(piece, places[name], shape)
    return found


def _by_dtype(parts: Sequence[_Part], shards: Mapping[str, Tensors]) -> Iterator[tuple[Tensors, list[_Part]]]:
    together: dict[tuple[str, str], list[_Part]] = defaultdict(list)
    for part in parts:
        together[part.site.file, shards[part.site.file].dtype(part.tensor)].append(part)
    for (file, _), members in together.items():
        yield shards[file], members


def _join(tensors: Tensors, parts: Sequence[_Part]) -> tuple[npt.NDArray[Any], list[int]]:
    """Items of all parts, and [parts + 1] where each begins."""
    joined = tensors.joined([(part.tensor, part.start, part.stop) for part in parts])
    return joined, [0, *accumulate(part.items for part in parts)]


def _cut(joined: npt.NDArray[Any], starts: Sequence[int]) -> list[npt.NDArray[Any]]:
    joined.flags.writeable = False
    return [joined[start:stop] for start, stop in pairwise(starts)]


def refuse_bad_indices(
    indices: Integers,
    starts: Sequence[int],
    shapes: Sequence[Shape],
    names: Sequence[str],
    sample: int,
    tensors: Tensors,
) -> None:
    """Indices of sparse sites must ascend strictly inside their shapes.

    Args:
        indices: of all sites, one after the other.
        starts: [sites + 1] where each begins.
        shapes, names: [sites].

    Raises:
        BundleFormatError: they do not; it names the first such site.
    """
    begins = np.array(starts)
    largest = np.array([min(rows * features - 1, _LARGEST) for rows, features in shapes], np.int64)
    filled = np.flatnonzero(begins[1:] > begins[:-1])
    outside = (indices[begins[filled]] < 0) | (indices[begins[filled + 1] - 1] > largest[filled])
    falls = np.flatnonzero(indices[1:] <= indices[:-1]) + 1
    inside = falls[begins[np.searchsorted(begins, falls)] != falls]  # a site may well begin below the one before it
    bad = np.append(filled[outside], np.searchsorted(begins, inside) - 1)
    if bad.size:
        raise BundleFormatError(
            f"indices of site {names[bad.min()]!r}, sample {sample}, are out of order or range",
            where=tensors.path,
            cure=CURE,
        )
