"""Everything that is measured on a recording before it is judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from model_forensics.cf.blocks import Block, blocks_of
from model_forensics.cf.features.table import Measured
from model_forensics.cf.integrity import IntegrityCounts
from model_forensics.cf.planes import Entries, Floats, Layout, read_entries
from model_forensics.cf.windows import SampleDetail, SiteDetail, token_profiles
from model_forensics.errors import BundleFormatError

if TYPE_CHECKING:
    from model_forensics.types import Recording


@dataclass(frozen=True)
class Instrument:
    """How the samples of a block are measured.

    Attributes:
        measure: of the entries of a sample.
        sketch: [sites, sketch] of them; None where there is no baseline.
    """

    measure: Callable[[Entries], Measured]
    sketch: Callable[[Entries], Floats] | None = None


MOST_CHANNELS: Final = 1 << 26
"""Features of all sites together, of each of which numbers are kept; a bundle may claim any number without a value."""
InstrumentOf = Callable[[Block], Instrument]
Profiles = Sequence[tuple[float | None, ...]]


@dataclass(frozen=True)
class ReadBlock:
    """What was measured on the sites of one block."""

    block: Block
    integrity: IntegrityCounts
    details: tuple[SampleDetail, ...]
    profiles: Profiles
    sketches: Floats | None  # [samples, sites, sketch]


@dataclass(frozen=True)
class Reading:
    """Everything measured on a recording before it is judged."""

    layout: Layout
    blocks: Sequence[ReadBlock]
    integrity: IntegrityCounts
    tables: Floats  # [samples, sites, columns]
    tokens: np.ndarray  # [samples, sites]
    profiles: Profiles  # of the first sample
    sketches: Floats | None  # [samples, sites, sketch]; None without a baseline
    again: Callable[[int], SampleDetail] = field(repr=False)  # the first sample of one site with its entries

    def details(self, site: int) -> Iterator[SiteDetail]:
        """What is known of each sample at one site, of the first one with its entries."""
        part = next(part for part in self.blocks if part.block.sites.start <= site < part.block.sites.stop)
        for sample, detail in enumerate(part.details):
            if sample == 0 and len(self.blocks) > 1:
                yield SiteDetail(self.again(site), 0, Block.of(self.layout, site, site + 1).layout)
            else:
                yield SiteDetail(detail, site - part.block.sites.start, part.block.layout)


def read(
    recording: Recording,
    layout: Layout,
    instrument_of: InstrumentOf,
    progress: Callable[[int, int], None] | None,
    *,
    windows: bool = True,
    memory: int | None = None,
) -> Reading:
    """Read and measure all samples.

    Args:
        layout: sites that are read.
        instrument_of: measures the entries of a block's samples.
        progress: called with (samples done, samples), counting a sample once for each block.
        windows: whether token profiles of the first sample are made.
        memory: bytes that the values of a block may take while they are measured; None for all sites at once.

    Raises:
        BaselineError: a site has another number of features than the layout says.
        BundleFormatError: more than `MOST_CHANNELS` features.
    """
    if layout.channels > MOST_CHANNELS:
        raise BundleFormatError(
            f"{layout.channels:,} features of all sites; at most {MOST_CHANNELS:,} are judged",
            where=str(recording.path or recording.bundle_id),
            cure="Record fewer or narrower sites in a bundle",
        )
    dense = np.array(
        [recording.sites[i.name].layout == "dense" if i.name in recording.sites else False for i in layout.sites]
    )
    blocks = blocks_of(recording, layout, memory)
    samples = len(recording.samples)
    parts: list[ReadBlock] = []
    for number, block in enumerate(blocks):

        def done(sample: int, before: int = number * samples) -> None:
            if progress is not None:
                progress(before + sample, len(blocks) * samples)

        instrument = instrument_of(block)
        keep = len(blocks) == 1
        parts.append(
            _read_block(
                recording, block, dense[block.sites], instrument, done,
                windows=windows, keep=keep, release=memory is not None,
            )
        )  # fmt: skip

    def again(site: int) -> SampleDetail:
        alone = Block.of(layout, site, site + 1)
        entries = read_entries(recording, 0, alone.layout)
        release_memory(recording)
        return SampleDetail(instrument_of(alone).measure(entries), entries.rows)

    sketches = [part.sketches for part in parts if part.sketches is not None]
    return Reading(
        layout=layout,
        blocks=parts,
        integrity=IntegrityCounts.joined([part.integrity for part in parts]),
        tables=np.concatenate([np.stack([d.measured.table for d in part.details]) for part in parts], axis=1),
        tokens=np.concatenate([np.stack([d.tokens for d in part.details]) for part in parts], axis=1),
        profiles=[profile for part in parts for profile in part.profiles],
        sketches=np.concatenate(sketches, axis=1) if sketches else None,
        again=again,
    )


def release_memory(recording: Recording) -> None:
    """Let a recording on disk give back the memory of what was read of it."""
    release = getattr(recording, "release_memory", None)
    if release is not None:
        release()


def _read_block(
    recording: Recording,
    block: Block,
    dense: np.ndarray,
    instrument: Instrument,
    done: Callable[[int], None],
    *,
    windows: bool,
    keep: bool,
    release: bool,
) -> ReadBlock:
    """All samples of one block; with `keep`, the first one's entries stay, with `release`, nothing that is on disk."""
    layout = block.layout
    samples = len(recording.samples)
    integrity = IntegrityCounts.empty(layout, dense, several=samples > 1)
    details: list[SampleDetail] = []
    profiles: Profiles = [()] * len(layout)
    sketches: list[Floats] = []
    for sample in range(samples):
        entries = read_entries(recording, sample, layout)
        integrity.add(entries, sample, layout)
        measured = instrument.measure(entries)
        if sample == 0 and windows:
            profiles = token_profiles(measured, entries)
        if sample or not keep:
            measured = measured.without_entries(windows=sample == 0)
        details.append(SampleDetail(measured, entries.rows))
        if instrument.sketch is not None:
            sketches.append(instrument.sketch(entries))
        if release:
            release_memory(recording)
        done(sample + 1)
    return ReadBlock(block, integrity, tuple(details), profiles, np.stack(sketches) if sketches else None)
