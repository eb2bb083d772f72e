"""Bundles that are opened when they are read, so that thousands of them fit into memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy.typing as npt

from model_forensics.bundle.reader import Bundle, find_bundles, load_bundle
from model_forensics.errors import BundleDigestError
from model_forensics.failure import Failure
from model_forensics.types import BundleKind, ModelReference, Sample, SiteInfo, Sparse

OPEN_AT_ONCE = 64  # more than `baseline_samples` is by default, so that fitting opens no bundle twice


class Shelf:
    """Checks bundles once and keeps what describes their samples; opens them again to read values.

    An open bundle of 400 sites takes about 1 MB. Of those on the shelf at most `open_at_once` are open; the others keep
    their samples, and share equal descriptions of sites and models.
    """

    def __init__(self, open_at_once: int = OPEN_AT_ONCE) -> None:
        self._limit = open_at_once
        self._open: OrderedDict[Path, Bundle] = OrderedDict()
        self._sites: dict[tuple[SiteInfo, ...], Mapping[str, SiteInfo]] = {}
        self._models: list[ModelReference | None] = []

    def add(self, path: Path | str) -> list[ShelvedBundle]:
        """One bundle, or all bundles of a directory, sorted by name. Errors are those of `load_bundle`."""
        return [self._shelve(load_bundle(place)) for place in find_bundles(path)]

    def open(self, path: Path, content_digest: str) -> Bundle:
        """The bundle, from those that are open or opened again (its files' digests are not computed again).

        Raises:
            BundleError: it was changed since it was shelved.
        """
        bundle = self._open.pop(path, None)
        if bundle is None:
            bundle = load_bundle(path, verify=False)
            if bundle.content_digest != content_digest:
                raise BundleDigestError(
                    "it was changed while it was in use", where=path, cure="Run again when nothing writes to it"
                )
        self._keep(bundle)
        return bundle

    def _shelve(self, bundle: Bundle) -> ShelvedBundle:
        self._keep(bundle)
        return ShelvedBundle(
            bundle_id=bundle.bundle_id,
            kind=bundle.kind,
            created_at=bundle.created_at,
            path=bundle.path,
            content_digest=bundle.content_digest,
            model=self._shared_model(bundle.model),
            failure=bundle.failure,
            samples=bundle.samples,
            sites=self._sites.setdefault(tuple(bundle.sites.values()), bundle.sites),
            shelf=self,
        )

    def _keep(self, bundle: Bundle) -> None:
        self._open[bundle.path] = bundle
        if len(self._open) > self._limit:
            self._open.popitem(last=False)

    def _shared_model(self, model: ModelReference | None) -> ModelReference | None:
        if model not in self._models:
            self._models.append(model)
        return self._models[self._models.index(model)]


@dataclass(frozen=True)
class ShelvedBundle:
    """A checked bundle on a `Shelf`; implements `types.Recording`. Attributes and errors are those of `Bundle`."""

    bundle_id: str
    kind: BundleKind
    created_at: datetime
    path: Path
    content_digest: str
    model: ModelReference | None
    failure: Failure | None
    samples: tuple[Sample, ...]
    sites: Mapping[str, SiteInfo]
    shelf: Shelf = field(repr=False, compare=False)

    def activation(self, site: str, sample: int) -> npt.NDArray[Any] | Sparse:
        return self._bundle.activation(site, sample)

    def has_activation(self, site: str, sample: int) -> bool:
        return self._bundle.has_activation(site, sample)

    def recorded_activations(self, sites: Sequence[str], sample: int) -> Mapping[str, npt.NDArray[Any] | Sparse]:
        return self._bundle.recorded_activations(sites, sample)

    def inputs(self, call: int) -> Mapping[str, npt.NDArray[Any]]:
        return self._bundle.inputs(call)

    def outputs(self, sample: int) -> Mapping[str, npt.NDArray[Any]]:
        return self._bundle.outputs(sample)

    @property
    def _bundle(self) -> Bundle:
        return self.shelf.open(self.path, self.content_digest)
