"""Which bundles a baseline was fitted from, so that baselines can be combined and extended.

What is measured of a benign sample depends on all other groups (`fitting.cross_fit`), and not linearly. So baselines
are combined by fitting the recordings of both at once, which is exact, and a baseline remembers where these are.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints

from model_forensics.errors import BaselineError
from model_forensics.types import Frozen

if TYPE_CHECKING:
    from model_forensics.cf.baseline import Baseline
    from model_forensics.cf.fitting import Chosen
    from model_forensics.types import Recording


class Source(Frozen):
    """One benign bundle that a baseline was fitted from.

    Attributes:
        content_digest: pins all of the bundle's content; see `Recording.content_digest`.
        places: where the bundle may be, most likely first; in a stored baseline relative ones start at its directory.
        samples: how many the bundle holds; all of them were candidates.
        chosen: numbers of those that were fitted, ascending.
    """

    bundle_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    content_digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    places: tuple[Annotated[str, StringConstraints(pattern=r"^[^\x00]+$")], ...] = Field(min_length=1)
    samples: int = Field(ge=1)
    chosen: tuple[int, ...]

    def or_at(self, places: Iterable[str]) -> Source:
        """With more places to look at."""
        return self.model_copy(update={"places": tuple(dict.fromkeys((*self.places, *places)))})

    def stored_in(self, directory: Path) -> Source:
        """With a path from `directory` as well, so that both can be moved together."""
        relative = os.path.relpath(self.places[0], directory)
        return self.model_copy(update={"places": (relative,)}).or_at(self.places)

    def loaded_from(self, directory: Path) -> Source:
        """With absolute paths only."""
        places = (os.path.normpath(directory / place) for place in self.places)
        return self.model_copy(update={"places": tuple(dict.fromkeys(places))})


def distinct(recordings: Iterable[Recording]) -> list[Recording]:
    """Every bundle once, by its id, so that what is fitted does not depend on the order in which they were given.

    Raises:
        BaselineError: recordings of one bundle id hold different things, or are in memory, where that is not known.
    """
    found: dict[str, Recording] = {}
    for recording in recordings:
        other = found.setdefault(recording.bundle_id, recording)
        same = recording.content_digest is not None and recording.content_digest == other.content_digest
        if other is not recording and not same:
            raise BaselineError(
                f"two different recordings have the bundle id {recording.bundle_id!r}, the other is {_place(other)}",
                where=recording.path or recording.bundle_id,
                cure="Leave one of them out, or give each an id of its own when recording",
            )
    return [found[bundle_id] for bundle_id in sorted(found)]


def sources_of(recordings: Sequence[Recording], chosen: Sequence[Chosen]) -> tuple[Source, ...] | None:
    """The sources of a baseline, or None when some of its recordings are in memory only."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for item in chosen:
        numbers[item.recording.bundle_id].append(item.sample)
    sources = []
    for recording in recordings:
        if recording.path is None or recording.content_digest is None:
            return None
        sources.append(
            Source(
                bundle_id=recording.bundle_id,
                content_digest=recording.content_digest,
                places=(os.path.realpath(recording.path),),
                samples=len(recording.samples),
                chosen=tuple(sorted(numbers[recording.bundle_id])),
            )
        )
    return tuple(sources)


def missing_sources(parts: Iterable[Baseline], recordings: Iterable[Recording]) -> list[Source]:
    """The sources of `parts` that are not among `recordings`, each once, by bundle id.

    Raises:
        BaselineError: a part has no sources, or a bundle id stands for different content in two places.
    """
    given = {recording.bundle_id: recording for recording in recordings}
    missing: dict[str, Source] = {}
    for part in parts:
        if part.sources is None:
            raise BaselineError(
                "it was fitted from recordings in memory, so its sources are not known",
                where=f"baseline {part.baseline_id}",
                cure="Write the recordings as bundles, and fit the baseline from these",
            )
        for source in part.sources:
            known = given.get(source.bundle_id) or missing.setdefault(source.bundle_id, source)
            if known.content_digest != source.content_digest:
                raise BaselineError(
                    f"bundle {source.bundle_id!r} is not the one that baseline {part.baseline_id} was fitted from",
                    where=known.places[0] if isinstance(known, Source) else _place(known),
                    cure="Give the unaltered bundle, or fit a baseline from the bundles themselves",
                )
            if isinstance(known, Source):
                missing[source.bundle_id] = known.or_at(source.places)
    return [missing[bundle_id] for bundle_id in sorted(missing)]


def _place(recording: Recording) -> str:
    return "in memory" if recording.path is None else os.path.abspath(recording.path)
