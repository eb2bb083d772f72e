"""All activations of a sample in one go: a few calls, where site by site Python would take most of the time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.bundle.checks import Offsets, Tensors
from model_forensics.bundle.schema import CURE, SiteEntry
from model_forensics.errors import BundleFormatError
from model_forensics.files import widen_bfloat16
from model_forensics.types import Sparse

Integers = npt.NDArray[np.int64]
Shape = tuple[int, int]  # (rows, features)
Bounds = tuple[int, int]  # [start, stop) along the first axis of a tensor
_LARGEST = int(np.iinfo(np.int64).max)


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
    alike: dict[tuple[str, str, bool], list[SiteEntry]] = defaultdict(list)
    for site in sites:
        alike[site.file, site.dtype, site.entries is None].append(site)
    found: dict[str, npt.NDArray[Any] | Sparse] = {}
    for (file, dtype, dense), members in alike.items():
        names = [site.name for site in members]
        rows = [shared if site.rows is None else own[site.rows] for site in members]
        shapes = [(stop - start, site.features) for site, (start, stop) in zip(members, rows, strict=True)]
        if dense:
            joined = shards[file].joined(_parts(names, rows))
            pieces = _cut(_widened(joined, dtype), [height * width for height, width in shapes])
            found.update((name, piece.reshape(shape)) for name, piece, shape in zip(names, pieces, shapes, strict=True))
        else:
            bounds = [entries[site.entries] for site in members if site.entries is not None]
            joined = shards[file].joined(_parts([f"{name}/values" for name in names], bounds))
            pieces = _cut(_widened(joined, dtype), [stop - start for start, stop in bounds])
            places = _places(shards[file], names, bounds, shapes, sample)
            found.update(zip(names, map(Sparse, pieces, places, shapes), strict=True))
    return found


def _places(
    tensors: Tensors, names: Sequence[str], bounds: Sequence[Bounds], shapes: Sequence[Shape], sample: int
) -> list[Integers]:
    """[sites] indices of sparse sites of one file, checked."""
    by_dtype: dict[str, list[int]] = defaultdict(list)
    for site, name in enumerate(names):
        by_dtype[tensors.dtype(f"{name}/indices")].append(site)
    places: dict[int, Integers] = {}
    for members in by_dtype.values():
        some = [bounds[site] for site in members]
        joined = tensors.joined(_parts([f"{names[site]}/indices" for site in members], some)).astype(np.int64)
        counts = [stop - start for start, stop in some]
        refuse_bad_indices(
            joined, counts, [shapes[site] for site in members], [names[site] for site in members], sample, tensors
        )
        places.update(zip(members, _cut(joined, counts), strict=True))
    return [places[site] for site in range(len(names))]


def _parts(tensors: Sequence[str], bounds: Sequence[Bounds]) -> list[tuple[str, int, int]]:
    return [(tensor, start, stop) for tensor, (start, stop) in zip(tensors, bounds, strict=True)]


def _widened(stored: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    return widen_bfloat16(stored) if dtype == "bfloat16" else stored


def _cut(joined: npt.NDArray[Any], counts: Sequence[int]) -> list[npt.NDArray[Any]]:
    """[sites] the items of each."""
    joined.flags.writeable = False
    return [joined[start:stop] for start, stop in pairwise(accumulate(counts, initial=0))]


def refuse_bad_indices(
    indices: Integers,
    counts: Sequence[int],
    shapes: Sequence[Shape],
    names: Sequence[str],
    sample: int,
    tensors: Tensors,
) -> None:
    """Indices of sparse sites must ascend strictly inside their shapes.

    Args:
        indices: of all sites, one after the other.
        counts, shapes, names: [sites].

    Raises:
        BundleFormatError: they do not; it names the first such site.
    """
    begins = np.append(0, np.cumsum(counts, dtype=np.int64))
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
