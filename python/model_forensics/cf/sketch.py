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
        slot: [channels] int64, `site · SKETCH + bucket`.
        inverse: [channels] float32, one over the channel's typical magnitude.
        weight: [channels] float32, sign / √(channels in a bucket).
        position_class: 0: the first token is sketched; 1: all later ones.
    """

    slot: Integers
    inverse: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    position_class: int

    @staticmethod
    def of(layout: Layout, model: ChannelModel, position_class: int) -> Sketcher:
        places = [_buckets(int(features)) for features in layout.features]
        slot = np.concatenate([site * SKETCH + bucket for site, (bucket, _) in enumerate(places)])
        weight = np.concatenate([weight for _, weight in places])
        return Sketcher(slot, np.exp2(-model.location), weight, position_class)

    def tokens(self, entries: Entries) -> Integers:
        """[sites] tokens that are sketched."""
        later = np.maximum(entries.rows - 1, 0)
        return later if self.position_class else np.minimum(entries.rows, 1)

    def mean(self, entries: Entries) -> Floats:
        """[sites, SKETCH] mean over the class's tokens; NaN where the sample has none at a site."""
        chosen, contribution = self._contributions(entries)
        sites = entries.rows.size
        total = np.bincount(self.slot[entries.channel[chosen]], contribution, minlength=sites * SKETCH)
        tokens = self.tokens(entries).astype(np.float64)
        result: Floats = total.reshape(sites, SKETCH) / np.where(tokens > 0, tokens, np.nan)[:, None]
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
        chosen, contribution = self._contributions(entries)
        at = place[entries.row[chosen]]
        slot = at * (sites * SKETCH) + self.slot[entries.channel[chosen]]
        kept = at >= 0
        total = np.bincount(slot[kept], contribution[kept], minlength=picked.size * sites * SKETCH)
        result = total.reshape(picked.size, sites, SKETCH).astype(np.float32)
        result[:, tokens != longest] = np.nan
        return result

    def _contributions(self, entries: Entries) -> tuple[npt.NDArray[np.bool_] | slice, Floats]:
        inside = entries.finite
        if self.position_class or entries.rows.max(initial=0) > 1:
            inside = inside & ((entries.row > 0) == bool(self.position_class))
        chosen = slice(None) if inside.all() else inside
        channel = entries.channel[chosen]
        scaled = np.clip(entries.values[chosen] * self.inverse[channel], -LIMIT, LIMIT)
        return chosen, (scaled * self.weight[channel]).astype(np.float64)


@cache
def _buckets(features: int) -> tuple[Integers, npt.NDArray[np.float32]]:
    """Bucket and weight of each channel of a site; the same for all sites of one width, on every machine."""
    if features <= SKETCH:
        return np.arange(features), np.ones(features, dtype=np.float32)
    rng = np.random.default_rng(features)
    bucket = rng.permutation(np.arange(features) % SKETCH)
    weight = rng.choice([-1.0, 1.0], features) / np.sqrt(features / SKETCH)
    return bucket, weight.astype(np.float32)
