"""What benign recordings look like per site, fitted once and saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model_forensics.cf import store
from model_forensics.cf.blocks import Block
from model_forensics.cf.calibration import Calibration, calibrate
from model_forensics.cf.compatibility import SiteForms, common_model, family_name, merge_layout, site_forms
from model_forensics.cf.features.table import COLUMN, COLUMNS, WHOLE, Measured, measure
from model_forensics.cf.fitting import (
    KEPT_BYTES,
    KeepingReader,
    choose_samples,
    cross_fit,
    make_sketcher,
    models_of,
    sum_moments,
)
from model_forensics.cf.innovation import Innovations, fit_innovations
from model_forensics.cf.moments import ChannelModel, Moments
from model_forensics.cf.origin import Source, distinct, missing_sources, sources_of
from model_forensics.cf.planes import Entries, Floats, Layout
from model_forensics.cf.reading import Instrument
from model_forensics.cf.sketch import Sketcher
from model_forensics.cf.standardise import site_families
from model_forensics.errors import BaselineError
from model_forensics.types import ModelReference, SiteInfo

if TYPE_CHECKING:
    from model_forensics.config import ForensicsConfig
    from model_forensics.files import EncryptionKey
    from model_forensics.types import Recording

# What is constant in the baseline counts as spreading this much, in bits or octaves per value: codes learned from all
# groups differ a little from those that left a group out, and a constant site would show that as a departure.
SMALLEST_SPREAD = 0.02
SMALLEST_BLOCK_SPREAD = 0.25  # of the scan's score, in standard deviations of chance
SMALLEST_COMPRESSED_SPREAD = 0.02  # bits per value; headers and block sizes move less than this
SMALLEST_PRESENCE_SPREAD = 1.0
CONSTANT_SPREAD = 1e-9


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline. Build it with `fit_baseline` or `Baseline.load`.

    Attributes:
        model: whose recordings these are, as far as they say.
        layout: sites in execution order.
        moments: of the first and of the later tokens.
        tables: [samples, sites, columns] cross-fitted measurements of the benign samples.
        innovations: the maps from a sample's sketch to what its upstream does not explain.
        profiles: [samples, sites, sketch] cross-fitted innovations of the benign samples.
        tokens: [samples, sites] int64.
        group_names: [samples], digests of the groups' names (the names themselves may be private).
        methods: compression methods that were computed.
        window: symbols in an entropy window.
        nonfinite: site → NaN and Inf values met while fitting; such values were masked out.
        warnings: what a reader of any result against this baseline should know.
        forms: [sites], dtypes and layouts in which benign runs recorded them.
        sources: the bundles that it was fitted from, by bundle id; None where some were recordings in memory.
    """

    model: ModelReference | None
    layout: Layout
    moments: tuple[Moments, Moments]
    tables: Floats
    innovations: Innovations
    profiles: Floats
    tokens: np.ndarray
    group_names: tuple[str, ...]
    methods: tuple[str, ...]
    window: int
    nonfinite: dict[str, int]
    warnings: tuple[str, ...]
    forms: tuple[SiteForms, ...]
    sources: tuple[Source, ...] | None
    _calibrations: dict[tuple[str, ...], Calibration] = field(default_factory=dict, repr=False, compare=False)
    _medians: dict[tuple[int, ...], Floats] = field(default_factory=dict, repr=False, compare=False)

    @property
    def groups(self) -> int:
        return len(set(self.group_names))

    @property
    def sites(self) -> tuple[SiteInfo, ...]:
        return self.layout.sites

    @cached_property
    def baseline_id(self) -> str:
        """Digest of everything but the places of its sources."""
        return store.content_digest(self)

    @cached_property
    def models(self) -> tuple[ChannelModel | None, ...]:
        """The channel model of each position class."""
        return models_of(self.moments, self.layout)

    @cached_property
    def sketcher(self) -> Sketcher:
        return make_sketcher(self.moments, self.layout, self.models)

    def prepare(self, config: ForensicsConfig) -> None:
        """Compute now what `analyze` would compute first, so that what it takes of memory is known."""
        self.sketcher  # noqa: B018
        self.calibration([method for method in config.compression_methods if method in self.methods])

    def calibration(self, methods: Sequence[str]) -> Calibration:
        """The calibration for these methods (computed once, then kept)."""
        key = tuple(method for method in self.methods if method in methods)
        if key not in self._calibrations:
            families = site_families([family_name(info) for info in self.layout.sites])
            self._calibrations[key] = calibrate(
                self.tables, self.tokens, self.profiles, self.group_names, families, self._floors, key
            )
        return self._calibrations[key]

    def instrument(self, block: Block, methods: Sequence[str]) -> Instrument:
        """What measures samples under the baseline's models, at the sites of a block.

        What counts all tokens together is NaN where benign runs had one token only: nothing is known of later ones.
        """
        models = [None if model is None else model.of_sites(self.layout, block.sites) for model in self.models]
        only_first = self.moments[1].rows[block.sites] == 0

        def measure_one(entries: Entries) -> Measured:
            measured = measure(entries, models, block.layout, methods, self.window)
            unknown = (entries.rows > 1) & only_first
            measured.table[np.ix_(unknown, [COLUMN[name] for name in WHOLE])] = np.nan
            return measured

        return Instrument(measure_one, self.sketcher.of_sites(self.layout, block.sites).mean)

    def median_bits(self, columns: tuple[int, ...]) -> Floats:
        """[sites] median over benign samples of columns in bits; NaN where none was measured."""
        if columns not in self._medians:
            moved = np.moveaxis(self.tables[:, :, columns], 1, 0).reshape(len(self.layout), -1)
            self._medians[columns] = nanmedian_rows(moved)
        return self._medians[columns]

    @cached_property
    def judged_groups(self) -> np.ndarray:
        """[sites] int64: groups that recorded the site."""
        names = sorted(set(self.group_names))
        numbers = np.array([names.index(name) for name in self.group_names])
        seen = [(self.tokens[numbers == number] > 0).any(axis=0) for number in range(len(names))]
        result: np.ndarray = np.sum(seen, axis=0).astype(np.int64)
        return result

    @cached_property
    def valueless(self) -> np.ndarray:
        """[sites] bool: benign runs recorded no finite value other than zero."""
        first, later = self.moments
        result: np.ndarray = np.add.reduceat(first.count + later.count, self.layout.offsets[:-1]) == 0
        return result

    @cached_property
    def constant(self) -> np.ndarray:
        """[sites] bool: every benign run gave the same values, so there is no spread to judge by."""
        columns = [COLUMN[f"{kind}.{name}"] for kind in ("first", "later") for name in ("scale", "top", "magnitude")]
        spread = np.zeros(len(self.layout))
        for column in columns:
            values = self.tables[..., column]
            seen = np.isfinite(values)
            low = np.where(seen, values, np.inf).min(axis=0)
            high = np.where(seen, values, -np.inf).max(axis=0)
            spread = np.maximum(spread, np.where(seen.sum(axis=0) > 1, high - low, 0.0))
        return spread <= CONSTANT_SPREAD

    @cached_property
    def _floors(self) -> Floats:
        """[sites, columns] smallest credible spread: one value's worth for shares of values."""
        floors = np.full((len(self.layout), len(COLUMNS)), SMALLEST_SPREAD)
        floors[:, [COLUMN["zlib"], COLUMN["gzip"]]] = SMALLEST_COMPRESSED_SPREAD
        for position_class, kind in enumerate(("first", "later")):
            part = self.moments[position_class]
            samples = np.maximum((self.tokens > position_class).sum(axis=0), 1)
            values = np.add.reduceat(part.count, self.layout.offsets[:-1]) / samples
            for name in ("distinct", "low_mantissa", "saturated", "repeated", "zero"):
                floors[:, COLUMN[f"{kind}.{name}"]] = 1 / np.maximum(values, 1)
            floors[:, COLUMN[f"{kind}.block"]] = SMALLEST_BLOCK_SPREAD
            # Bits per token over all channels: what is always present still costs a little less with every group seen.
            floors[:, COLUMN[f"{kind}.presence"]] = SMALLEST_PRESENCE_SPREAD
        return floors

    def save(self, directory: Path | str, overwrite: bool = False) -> None:
        """Write the baseline as a directory (JSON and safetensors), encrypted when the process has a key.

        Raises:
            UsageError: the directory exists and `overwrite` is false.
            StorageError: writing failed; nothing half-written stays.
        """
        store.save(self, Path(directory), overwrite=overwrite)

    @staticmethod
    def load(directory: Path | str, *, key: EncryptionKey | None = None) -> Baseline:
        """Read a saved baseline.

        Args:
            directory: where it was saved.
            key: what an encrypted one is encrypted with; by default the process's, see `files.encryption_key`.

        Raises:
            BaselineError: a file is missing, broken, altered, or of a version that this release does not read.
            EncryptionError: it is encrypted, and the key is missing or another one, or a file was altered.
        """
        return store.load(Path(directory), Baseline, key)

    @staticmethod
    def combine(parts: Sequence[Baseline], recordings: Sequence[Recording], config: ForensicsConfig) -> Baseline:
        """The baseline of all that the parts were fitted from and of new recordings: bit for bit what fitting all at
        once gives, in whatever order.

        Args:
            parts: fitted from bundles, with whatever configuration.
            recordings: all sources of all parts, opened (`RCAPipeline.build_baseline` finds and opens them), and any
                others, which are added.
            config: of the new baseline; every sample of every source is a candidate again.

        Raises:
            BaselineError: as `fit_baseline`, or a source is not there, or is another bundle than was fitted.
        """
        for source in missing_sources(parts, recordings):
            raise BaselineError(
                f"bundle {source.bundle_id!r}, which a part was fitted from, is not among the recordings",
                where=source.places[0],
                cure="Open it and hand it in, or use RCAPipeline.build_baseline, which does",
            )
        return fit_baseline(recordings, config)


def nanmedian_rows(values: Floats) -> Floats:
    """Median of each row without NaN; NaN for rows without a value (np.nanmedian warns there, and takes its time)."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = (~np.isnan(values)).sum(axis=1)
    row = np.arange(len(values))
    result: Floats = (ordered[row, np.maximum(count - 1, 0) // 2] + ordered[row, count // 2]) / 2
    return result


def fit_baseline(recordings: Sequence[Recording], config: ForensicsConfig) -> Baseline:
    """Fit a baseline in two streaming passes; see `fitting` for its memory.

    Args:
        recordings: in any order; a bundle that is there twice counts once.

    Raises:
        BaselineError: no recording, no sample, no value, recordings of different models or shapes, or different
            recordings with one bundle id.
    """
    cure = "Record benign runs, with Recorder.benign or BundleWriter"
    if not recordings:
        raise BaselineError("there is no benign recording to fit a baseline from", cure=cure)
    recordings = distinct(recordings)
    model = common_model(recordings)
    layout = merge_layout(recordings)
    chosen = choose_samples(recordings, config.baseline_samples)
    if not chosen or not len(layout):
        raise BaselineError("the benign recordings hold no sample or no site", cure=cure)
    nonfinite: dict[str, int] = {}
    reader = KeepingReader(layout, KEPT_BYTES)
    moments, tokens = sum_moments(chosen, layout, reader, nonfinite)
    if not any(part.count.any() for part in moments):
        raise BaselineError("the benign recordings hold no finite value other than zero", cure=cure)
    methods = tuple(config.compression_methods)
    tables, sketches = cross_fit(chosen, layout, moments, methods, config.entropy_window, reader)
    del reader  # and all that it kept
    groups = site_families([item.group for item in chosen])
    innovations, profiles = fit_innovations(sketches.rows, groups, sketches.means, layout)
    forms = site_forms({item.recording.bundle_id: item.recording for item in chosen}.values(), layout)
    mixed = [len(seen.layouts) > 1 for seen in forms]
    tables[:, mixed], profiles[:, mixed] = np.nan, np.nan  # must teach other sites nothing either
    return Baseline(
        model=model,
        layout=layout,
        moments=moments,
        # float32, as it is stored: a saved and loaded baseline gives the very same scores.
        tables=tables.astype(np.float32).astype(np.float64),
        innovations=innovations,
        profiles=profiles.astype(np.float32).astype(np.float64),
        tokens=tokens,
        group_names=tuple(store.group_digest(item.group) for item in chosen),
        methods=methods,
        window=config.entropy_window,
        nonfinite=nonfinite,
        warnings=_warnings(recordings, nonfinite),
        forms=forms,
        sources=sources_of(recordings, chosen),
    )


def _warnings(recordings: Sequence[Recording], nonfinite: dict[str, int]) -> tuple[str, ...]:
    warnings: list[str] = []
    if nonfinite:
        listed = ", ".join(list(nonfinite)[:5])
        warnings.append(f"the baseline holds NaN or Inf at {len(nonfinite)} sites ({listed}); they were masked out")
    digests = {r.model.weights_digest for r in recordings if r.model is not None and r.model.weights_digest is not None}
    if len(digests) > 1:
        warnings.append(f"the baseline mixes recordings of {len(digests)} versions of the weights")
    own = Counter(group for r in recordings for group in {s.group for s in r.samples if s.group == s.sample_id})
    alike = sum(count > 1 for count in own.values())
    if alike:
        warnings.append(
            f"{alike} groups are in several benign bundles and named like their samples, as where no group was given; "
            "each counts as one group: name groups when recording"
        )
    return tuple(warnings)
