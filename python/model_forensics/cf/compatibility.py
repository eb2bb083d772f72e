"""Which recordings belong to one model: what is refused, and what is accepted with a named difference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from model_forensics.cf.planes import Layout
from model_forensics.errors import BaselineError
from model_forensics.types import ModelReference, SiteInfo, VersionDifference

if TYPE_CHECKING:
    from model_forensics.types import Recording

MUST_AGREE = ("architecture", "family", "layers", "width", "tokenizer_digest")


def check_models(one: ModelReference | None, other: ModelReference | None, where: str) -> None:
    """Refuse recordings of another architecture or tokeniser; fields that either side lacks are not compared.

    Raises:
        BaselineError: they differ.
    """
    if one is None or other is None:
        return
    for field in MUST_AGREE:
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine is not None and theirs is not None and mine != theirs:
            raise BaselineError(
                f"its model's {field.replace('_', ' ')} is {theirs}, the baseline's is {mine}",
                where=where,
                cure="Use a baseline recorded from the same model and tokenizer",
            )


def check_sites(layout: Layout, sites: Iterable[SiteInfo], where: str) -> None:
    """Refuse sites whose number of features differs.

    Raises:
        BaselineError: a shared site has another shape.
    """
    for info in sites:
        position = layout.index.get(info.name)
        if position is not None and layout.sites[position].features != info.features:
            raise BaselineError(
                f"site {info.name} has {info.features} features, in the baseline {layout.sites[position].features}",
                where=where,
                cure="Use a baseline recorded from the same model",
            )


def merge_layout(recordings: Sequence[Recording]) -> Layout:
    """The union of all recordings' sites in execution order.

    Raises:
        BaselineError: recordings disagree on a site's shape.
    """
    merged: list[SiteInfo] = []
    seen: dict[str, SiteInfo] = {}
    for recording in recordings:
        check_sites(Layout(tuple(merged)), recording.sites.values(), str(recording.path or recording.bundle_id))
        insert_at = 0
        for name, info in recording.sites.items():
            if name in seen:
                insert_at = 1 + next(i for i, other in enumerate(merged) if other.name == name)
            else:
                merged.insert(insert_at, info)
                seen[name] = info
                insert_at += 1
    return Layout(tuple(merged))


def version_difference(
    incident: ModelReference | None, baseline: ModelReference | None, layout: Layout
) -> VersionDifference | None:
    """The difference in weights, or None where the digests agree or one of them is unknown."""
    if incident is None or baseline is None or incident.weights_digest is None or baseline.weights_digest is None:
        return None
    if incident.weights_digest == baseline.weights_digest:
        return None
    tensors = sites = None
    if incident.tensor_digests is not None and baseline.tensor_digests is not None:
        names = sorted(set(incident.tensor_digests) | set(baseline.tensor_digests))
        tensors = tuple(n for n in names if incident.tensor_digests.get(n) != baseline.tensor_digests.get(n))
        sites = tuple(
            info.name
            for info in layout.sites
            if info.kind != "resid" and any(tensor.startswith(f"{info.module}.") for tensor in tensors)
        )
    return VersionDifference(
        recording_digest=incident.weights_digest, baseline_digest=baseline.weights_digest, tensors=tensors, sites=sites
    )


def family_name(info: SiteInfo) -> str:
    """Sites of one family share variance priors and upstream coefficients: same kind, same module but for numbers."""
    return info.kind if info.kind != "module" else re.sub(r"\d+", "#", info.module)
