"""Which recordings belong to one model: what is refused, and what is accepted with a named difference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from model_forensics.cf.planes import Layout
from model_forensics.errors import BaselineError
from model_forensics.types import Frozen, ModelReference, SiteInfo, VersionDifference

if TYPE_CHECKING:
    from model_forensics.types import Recording


class SiteForms(Frozen):
    """In which forms benign runs recorded one site."""

    dtypes: tuple[str, ...]
    layouts: tuple[str, ...]

    def dtype_difference(self, info: SiteInfo) -> str | None:
        """In words, when benign runs never recorded this dtype."""
        if not self.dtypes or info.dtype in self.dtypes:
            return None
        return f"recorded as {info.dtype}, in the baseline as {' and '.join(self.dtypes)}"

    def layout_difference(self, info: SiteInfo) -> str | None:
        """Why the site cannot be judged: an entry that was not recorded is absent, and in a dense recording none is."""
        if len(self.layouts) > 1:
            return "recorded dense in some benign runs and sparse in others, which cannot be compared"
        if self.layouts and info.layout not in self.layouts:
            return f"recorded {info.layout}, in the baseline {self.layouts[0]}, which cannot be compared"
        return None


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


def common_model(recordings: Sequence[Recording]) -> ModelReference | None:
    """The first recording's model, with what that one lacks of the fields that must agree taken from the others.

    Raises:
        BaselineError: recordings of another architecture or tokeniser than earlier ones.
    """
    common: ModelReference | None = None
    for recording in recordings:
        check_models(common, recording.model, str(recording.path or recording.bundle_id))
        if common is None or recording.model is None:
            common = common or recording.model
        else:
            lacking = [field for field in MUST_AGREE if getattr(common, field) is None]
            common = common.model_copy(update={field: getattr(recording.model, field) for field in lacking})
    return common


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
    seen: dict[str, SiteInfo] = {}
    following: dict[str | None, str | None] = {None: None}
    for recording in recordings:
        check_sites(Layout(tuple(seen.values())), recording.sites.values(), str(recording.path or recording.bundle_id))
        before: str | None = None
        for name, info in recording.sites.items():
            if name not in seen:
                following[name], following[before] = following[before], name
                seen[name] = info
            before = name
    merged: list[SiteInfo] = []
    after = following[None]
    while after is not None:
        merged.append(seen[after])
        after = following[after]
    return Layout(tuple(merged))


def site_forms(recordings: Iterable[Recording], layout: Layout) -> tuple[SiteForms, ...]:
    """[sites]"""
    dtypes: list[set[str]] = [set() for _ in layout.sites]
    layouts: list[set[str]] = [set() for _ in layout.sites]
    for recording in recordings:
        for name, info in recording.sites.items():
            dtypes[layout.index[name]].add(info.dtype)
            layouts[layout.index[name]].add(info.layout)
    return tuple(
        SiteForms(dtypes=tuple(sorted(seen)), layouts=tuple(sorted(forms)))
        for seen, forms in zip(dtypes, layouts, strict=True)
    )


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
