"""What a writer keeps in memory about each site and output: dtype, shape, and where the values are in the spool."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from model_forensics.bundle.schema import SITE_DTYPES, UNSHOWABLE, parse_site_name
from model_forensics.bundle.spool import Spool
from model_forensics.errors import OutputError, UsageError
from model_forensics.files import widen_bfloat16
from model_forensics.types import SiteInfo, Sparse

Place = tuple[int, int]
Activation = npt.NDArray[Any] | Sparse


@dataclass
class SiteData:
    """One site of a bundle that is being written. The lists have one item per sample that recorded the site."""

    info: SiteInfo
    declared: bool
    samples: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    largest_index: int = 0
    places: list[Place] = field(default_factory=list)
    index_places: list[Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        if re.search(f"[{UNSHOWABLE}]", self.info.name):
            raise UsageError(
                "a site name with control characters, bidirectional controls or line separators",
                where=repr(self.info.name[:80]),
                cure="Rename it",
            )

    @staticmethod
    def from_first(name: str, value: Activation) -> SiteData:
        """Describe an undeclared site by its name and its first activation."""
        sparse = isinstance(value, Sparse)
        values = np.asarray(value.values if isinstance(value, Sparse) else value)
        if values.dtype.name not in ("float64", "float32", "float16"):
            raise UsageError(
                f"an activation of dtype {values.dtype}",
                where=name,
                cure="Pass float64, float32 or float16; for bfloat16 declare the site and pass its uint16 bit patterns",
            )
        if len(value.shape) != 2 or value.shape[1] < 1:
            raise UsageError(f"an activation of shape {tuple(value.shape)}", where=name, cure="Pass [rows, features]")
        if not name or len(name) > 4096:
            raise UsageError("a site name must have 1 to 4096 characters", where=name[:80], cure="Rename it")
        kind, layer = parse_site_name(name)
        dtype: Literal["float64", "float32", "float16"] = values.dtype.name  # type: ignore[assignment]
        layout: Literal["dense", "sparse"] = "sparse" if sparse else "dense"
        info = SiteInfo(
            name=name, module=name, kind=kind, layer=layer, features=value.shape[1], dtype=dtype, layout=layout
        )
        return SiteData(info, declared=False)

    def checked(self, value: Activation) -> Activation:
        """The activation with little-endian items, or a `UsageError` where it does not fit the site."""
        sparse = isinstance(value, Sparse)
        if sparse != (self.info.layout == "sparse"):
            raise self._refuse(f"a {'sparse' if sparse else 'dense'} activation", f"This site is {self.info.layout}")
        if len(value.shape) != 2 or value.shape[1] != self.info.features or value.shape[0] < 0:
            raise self._refuse(f"an activation of shape {tuple(value.shape)}", f"Pass [rows, {self.info.features}]")
        if not isinstance(value, Sparse):
            return self._checked_values(value)
        values = self._checked_values(value.values)
        indices = np.asarray(value.indices)
        size = int(value.shape[0]) * int(value.shape[1])
        if indices.dtype.kind not in "iu" or indices.ndim != 1 or values.shape != indices.shape:
            raise self._refuse("sparse values and indices that do not match", "Pass one integer index per value")
        if indices.size and (indices.min() < 0 or indices.max() >= size or (indices[1:] <= indices[:-1]).any()):
            raise self._refuse("sparse indices out of order or range", f"Pass strictly increasing ones below {size}")
        return Sparse(values, indices.astype("<i8"), (int(value.shape[0]), int(value.shape[1])))

    def store(self, spool: Spool, sample: int, value: Activation) -> None:
        """Append a checked activation of a sample."""
        if isinstance(value, Sparse):
            self.index_places.append(spool.append(value.indices))
            self.entries.append(len(value.indices))
            self.largest_index = max(self.largest_index, int(value.indices[-1]) if len(value.indices) else 0)
            self.places.append(spool.append(value.values))
        else:
            self.places.append(spool.append(value))
        self.rows.append(int(value.shape[0]))
        self.samples.append(sample)

    def _checked_values(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        values = np.asarray(values)
        _, dtype = SITE_DTYPES[self.info.dtype]
        if values.dtype.newbyteorder("<") != dtype:
            expected = "uint16 bit patterns (bfloat16)" if self.info.dtype == "bfloat16" else self.info.dtype
            raise self._refuse(f"an activation of dtype {values.dtype}", f"All samples of this site must be {expected}")
        return values.astype(dtype, copy=False)

    def _refuse(self, what: str, cure: str) -> UsageError:
        return UsageError(what, where=self.info.name, cure=cure)


@dataclass
class Output:
    """One named output of a bundle that is being written."""

    dtype: np.dtype[Any]
    tail: tuple[int, ...]  # shape without the rows
    rows: dict[int, int] = field(default_factory=dict)  # sample → rows
    places: list[Place] = field(default_factory=list)

    def store(self, spool: Spool, sample: int, value: npt.NDArray[Any]) -> None:
        self.places.append(spool.append(value.astype(self.dtype, copy=False)))
        self.rows[sample] = len(value)


def check_outputs(
    batch: Sequence[Mapping[str, npt.NDArray[Any]]], known: Mapping[str, Output], allow_nonfinite: bool
) -> dict[str, Output]:
    """The known outputs and the new ones of a batch, which fit them.

    Raises:
        UsageError: a dtype or shape that differs from earlier samples', or no rows.
        OutputError: NaN or infinity without `allow_nonfinite`.
    """
    outputs = dict(known)
    for sample in batch:
        for name, given in sample.items():
            value = np.asarray(given)
            if not name or "/" in name:
                raise UsageError("an output name must not be empty or hold '/'", where=name, cure="Rename the output")
            if value.ndim == 0 or value.shape[0] == 0 or value.dtype.kind not in "fiub":
                raise UsageError(
                    f"an output of shape {value.shape} and dtype {value.dtype}",
                    where=name,
                    cure="Pass [rows, ...] numbers",
                )
            little = value.dtype.newbyteorder("<")
            output = outputs.setdefault(name, Output(little, value.shape[1:]))
            if output.dtype != little or output.tail != value.shape[1:]:
                raise UsageError(
                    f"an output of shape {value.shape}, {value.dtype}, after (rows, {output.tail}), {output.dtype}",
                    where=name,
                    cure="Pass the same shape and dtype for every sample",
                )
            if not allow_nonfinite:
                refuse_nonfinite(value, name)
    return outputs


def refuse_nonfinite(value: npt.NDArray[Any], where: str, *, bfloat16: bool = False) -> None:
    """Raise `OutputError` where an output holds NaN or infinity; looks at 2^20 values at a time."""
    flat = value.reshape(-1)
    if not bfloat16 and value.dtype.kind != "f":
        return
    for start in range(0, flat.size, 1 << 20):
        piece = flat[start : start + (1 << 20)]
        if not np.isfinite(widen_bfloat16(piece) if bfloat16 else piece).all():
            raise OutputError(
                "the recorded output holds NaN or infinity",
                where=where,
                cure="Record the incident with Failure.nonfinite() if that is the failure, or leave the sample out",
            )
