"""Two bundles side by side: what they are about, and what samples with the same inputs computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from model_forensics.diff.inputs import input_digests
from model_forensics.diff.tables import Facts, comparison, flat, section
from model_forensics.diff.values import Measured, Read, difference, measure
from model_forensics.types import ComparedSection, Comparison, Recording

Pairs = list[tuple[int, int]]


def compare_recordings(left: Recording, right: Recording, names: tuple[str, str]) -> Comparison:
    """What differs between two bundles.

    Values are compared for samples whose inputs are the same on both sides, whatever their ids. Samples of one side
    that have the same input stand for one another in their order.
    """
    return comparison("bundles", *names, _sections(left, right))


def _sections(left: Recording, right: Recording) -> Iterator[ComparedSection]:
    ours, theirs = _digests(left), _digests(right)
    pairs = _same_inputs(ours, theirs)
    yield section("Bundle", _bundle(left), _bundle(right))
    yield section("Model", _model(left), _model(right))
    yield section("Weights", _tensors(left), _tensors(right), note=_no_tensors(left, right))
    yield section("Sites", _sites(left), _sites(right))
    yield section("Samples", _samples(left, ours), _samples(right, theirs))
    without = None if pairs else "no sample has the same input on both sides, so no values were compared"
    yield _values("Outputs", measure(_output_names(left, right), _outputs(left), _outputs(right), pairs), without)
    sites = [site for site in left.sites if site in right.sites]
    activations = measure(sites, _activations(left), _activations(right), pairs)
    yield _values("Activations", activations, without)
    yield section("Where and when", _circumstances(left), _circumstances(right), counts=False)


def _values(title: str, measured: Mapping[str, Measured], note: str | None) -> ComparedSection:
    """One row a name whose values differ."""
    found = {name: one for name, one in measured.items() if one.samples}
    rows = [difference(name, one) for name, one in found.items() if one.differ]
    return ComparedSection(title=title, compared=len(found), differences=tuple(rows), note=note)


def _digests(recording: Recording) -> list[dict[str, str]]:
    return [input_digests(recording, index) for index in range(len(recording.samples))]


def _same_inputs(left: list[dict[str, str]], right: list[dict[str, str]]) -> Pairs:
    places: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for index, digests in enumerate(right):
        places.setdefault(tuple(digests.items()), []).append(index)
    pairs = []
    for index, digests in enumerate(left):
        waiting = places.get(tuple(digests.items()))
        if digests and waiting:
            pairs.append((index, waiting.pop(0)))
    return pairs


def _bundle(recording: Recording) -> Facts:
    return {
        "kind": recording.kind,
        "failure": None if recording.failure is None else recording.failure.in_words(),
        "samples": len(recording.samples),
        "groups": len({sample.group for sample in recording.samples}),
        "tokens": sum(sample.tokens for sample in recording.samples),
        "sites": len(recording.sites),
    }


def _model(recording: Recording) -> Facts:
    if recording.model is None:
        return {}
    return flat(recording.model.model_dump(mode="json", exclude={"tensor_digests", "source"}))


def _tensors(recording: Recording) -> Facts:
    return dict((recording.model.tensor_digests if recording.model is not None else None) or {})


def _no_tensors(left: Recording, right: Recording) -> str | None:
    if _tensors(left) and _tensors(right):
        return None
    return "a bundle holds no digests of single tensors, so which ones differ is not known"


def _sites(recording: Recording) -> Facts:
    return {name: f"{info.features} × {info.dtype}, {info.layout}" for name, info in recording.sites.items()}


def _samples(recording: Recording, digests: list[dict[str, str]]) -> Facts:
    found: dict[str, str] = {}
    for sample, inputs in zip(recording.samples, digests, strict=True):
        words = [f"{sample.tokens} tokens", f"group {sample.group}"]
        if sample.right is not None:
            words.append(f"right {', '.join(map(str, sample.right))}")
        if sample.wrong is not None:
            words.append(f"wrong {', '.join(map(str, sample.wrong))}")
        words += [f"{name} {digest[:12]}" for name, digest in inputs.items()]
        found[sample.sample_id] = "; ".join(words)
    return found


def _output_names(left: Recording, right: Recording) -> list[str]:
    names = [set(recording.outputs(0)) if recording.samples else set() for recording in (left, right)]
    return sorted(names[0] & names[1])


def _outputs(recording: Recording) -> Read:
    return lambda name, sample: recording.outputs(sample).get(name)


def _activations(recording: Recording) -> Read:
    return lambda site, sample: recording.activation(site, sample) if recording.has_activation(site, sample) else None


def _circumstances(recording: Recording) -> Facts:
    return {
        "bundle_id": recording.bundle_id,
        "recorded at": recording.created_at.isoformat(),
        "model source": None if recording.model is None else recording.model.source,
        "content": recording.content_digest,
    }
