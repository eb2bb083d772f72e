"""Where a run departs, in a few words: the same for incidents that one fault made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_forensics.types import Onset, SiteMetrics


class Findings(Protocol):
    """What forensics found: an `AnalysisResult`."""

    @property
    def compression_metrics(self) -> Sequence[SiteMetrics]: ...
    @property
    def onset(self) -> Onset | None: ...
    @property
    def strongest(self) -> Onset | None: ...


def signature_of(found: Findings) -> str | None:
    """Placeholder until measured."""
    site = found.onset or found.strongest
    return None if site is None else site.site
