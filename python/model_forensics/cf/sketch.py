"""Linear sketches: a few random sums of a site's channels that keep its geometry and average like the values do."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model_forensics.cf.moments import ChannelModel
from model_forensics.cf.planes import Entries, Floats, Integers, Layout

SKETCH = 64  # numbers a site; sites with no more channels are kept as they are
LIMIT = 8.0  # magnitudes, over the channel's typical one, above which a value counts as this much


class Sketcher(NamedTuple):
    """How entries become sketches (a count sketch; Charikar, Chen and Farach-Colton 2004, Theor. Comput. Sci. 312).

    Each value is divided by its channel's typical magnitude, so that channels count alike; absent entries are zero.

    Attributes:
        bucket: [channels] uint8, which of the site's sums the channel is added to.
        factor: [channels] float32, the channel's random sign over its typical magnitude.
        scale: [sites] float64, 1 / √(channels in a bucket).
        position_class: 0: the first token is sketched; 1: all later ones.
    """

    bucket: npt.NDArray[np.uint8]
    factor: npt.NDArray[np.float32]
    scale: Floats
    position_class: int

    @staticmethod
    def of(layout: Layout, model: ChannelModel, position_class: int) -> Sketcher:
        places = [_buckets(int(features)) for features in layout.features]
        bucket = np.concatenate([bucket for bucket, _ in places])
        sign = np.concatenate([sign for _, sign in places])
        scale = np.sqrt(SKETCH / np.maximum(layout.features, SKETCH))
        return Sketcher(bucket, np.exp2(-model.location) * sign, scale, position_class)

    def of_sites(self, layout: Layout, sites: slice) -> Sketcher:
        """That of some neighbouring sites, without a copy."""
        inside = slice(layout.offsets[sites.start], layout.offsets[sites.stop])
        return Sketcher(self.bucket[inside], self.factor[inside], self.scale[sites], self.position_class)

    def tokens(self, entries: Entries) -> Integers:
        """[sites] tokens that are sketched."""
        later = np.maximum(entries.rows - 1, 0)
        return later if self.position_class else np.minimum(entries.rows, 1)

    def mean(self, entries: Entries) -> Floats:
        """[sites, SKETCH] mean over the class's tokens; NaN where the sample has none at a site."""
        _, slot, contribution = self._contributions(entries)
        sites = entries.rows.size
        total = np.bincount(slot, contribution, minlength=sites * SKETCH)
        tokens = self.tokens(entries).astype(np.float64)
        result: Floats = total.reshape(sites, SKETCH) * (self.scale / np.where(tokens > 0, tokens, np.nan))[:, None]
        return result

    def rows(self, entries: Entries, most: int) -> npt.NDArray[np.float32]:
        """[tokens, sites, SKETCH] of at most `most` tokens, evenly spaced; NaN at sites that lack a token of the
        others' number (one logit row of many tokens, say)."""
        tokens = self.tokens(entries)
        longest = int(tokens.max(initial=0))
        picked = np.unique(np.linspace(0, longest - 1, min(most, longest)).astype(np.int64)) + self.position_class
        sites = entries.rows.size
        place = np.full(int(entries.rows.max(initial=0)), -1)
        place[picked] = np.arange(picked.size)
        chosen, slot, contribution = self._contributions(entries)
        at = place[entries.row[chosen]]
        slot += at * (sites * SKETCH)
        kept = at >= 0
        total = np.bincount(slot[kept], contribution[kept], minlength=picked.size * sites * SKETCH)
        result = (total.reshape(picked.size, sites, SKETCH) * self.scale[:, None]).astype(np.float32)
        result[:, tokens != longest] = np.nan
        return result

    def _contributions(self, entries: Entries) -> tuple[npt.NDArray[np.bool_] | slice, Integers, Floats]:
        """Which entries are sketched, their `site · SKETCH + bucket`, and what they add there."""
        inside = entries.finite
        if self.position_class or entries.rows.max(initial=0) > 1:
            inside = inside & ((entries.row > 0) == bool(self.position_class))
        chosen = slice(None) if inside.all() else inside
        channel = entries.channel[chosen]
        scaled = entries.values[chosen] * self.factor[channel]
        slot = entries.site[chosen] * SKETCH + self.bucket[channel]
        return chosen, slot, np.clip(scaled, -LIMIT, LIMIT, out=scaled).astype(np.float64)


@cache
def _buckets(features: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Bucket and sign of each channel of a site; the same for all sites of one width, on every machine."""
    if features <= SKETCH:
        return np.arange(features, dtype=np.uint8), np.ones(features, dtype=np.float32)
    # The legacy generator: saved baselines hold sketches, and only its stream is frozen for all of NumPy (NEP 19).
    rng = np.random.RandomState(features)
    bucket = rng.permutation(np.arange(features) % SKETCH)
    sign = 1.0 - 2.0 * rng.randint(0, 2, features)
    return bucket.astype(np.uint8), sign.astype(np.float32)
