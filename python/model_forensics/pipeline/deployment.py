"""Wires a validated fix set to what is exported of it: `cca` says what it writes, `export` writes it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from model_forensics import report
from model_forensics.errors import InputRefused
from model_forensics.types import Export, FixedRuns, Recording, Validation

if TYPE_CHECKING:
    from model_forensics.cca import GivenValues
    from model_forensics.config import CausalConfig
    from model_forensics.models import Model

Kind = Literal["hook", "weights"]


class Healthy(TypedDict):
    """What a proof takes beside model and incident; see `cca.validate_fix`."""

    benign: Sequence[Recording]
    donor_model: Model | None
    contrast: Recording | None
    donor_values: GivenValues | None


@dataclass(frozen=True)
class Places:
    """Where a fix set is exported to."""

    hook: Path | None
    weights: Path | None
    overwrite: bool

    @staticmethod
    def of(hook: str | Path | None, weights: str | Path | None, *, overwrite: bool) -> Places:
        """The places, looked at before the work.

        Raises:
            UsageError: something is there that may not be replaced, or a hook that is no `.py`.
        """
        places = Places(
            None if hook is None else Path(hook), None if weights is None else Path(weights), overwrite=overwrite
        )
        if places.any():
            from model_forensics import export  # noqa: PLC0415  (torch loads late)

            if places.hook is not None:
                export.check_hook_target(places.hook, overwrite=overwrite)
            if places.weights is not None:
                export.check_weights_target(places.weights, overwrite=overwrite)
        return places

    def any(self) -> bool:
        return self.hook is not None or self.weights is not None

    def export(
        self, model: Model, incident: Recording, validation: Validation, healthy: Healthy, config: CausalConfig
    ) -> tuple[Export, ...]:
        """Writes what can be written; what cannot says why."""
        from model_forensics import cca, export  # noqa: PLC0415  (torch loads late)

        donor = healthy["donor_model"]
        try:
            runs = cca.fixed_runs(model, incident, validation.measured, **healthy, config=config)
        except InputRefused as error:
            return tuple(Export(kind=kind, path=str(path), refused=str(error)) for kind, path in self._named())
        notes = _notes(model, runs)
        exports = []
        for kind, path in self._named():
            try:
                if kind == "hook":
                    departure = export.write_hook(path, runs, model, donor, about=notes, overwrite=self.overwrite)
                    exports.append(_written(kind, path, runs, max_error=departure))
                else:
                    record = _record(model, runs, notes)
                    made = export.write_weights(path, runs, model, donor, record=record, overwrite=self.overwrite)
                    exports.append(_written(kind, path, runs, **made.facts()))
            except InputRefused as refusal:
                exports.append(Export(kind=kind, path=str(path), refused=str(refusal)))
        return tuple(exports)

    def _named(self) -> list[tuple[Kind, Path]]:
        named: list[tuple[Kind, Path | None]] = [("hook", self.hook), ("weights", self.weights)]
        return [(kind, path) for kind, path in named if path is not None]


def _written(kind: Kind, path: Path, runs: FixedRuns, **facts: Any) -> Export:
    return Export(kind=kind, path=str(path), refused=None, samples=len(runs.runs), **facts)


def _notes(model: Model, runs: FixedRuns) -> list[str]:
    """What an export says about itself, in paragraphs."""
    reference = model.reference
    return [
        f"A fix for {reference.architecture}: {runs.fix_set}.",
        f"Written by Model Forensics {version('model-forensics')} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, from"
        f" incident {runs.bundle_id}, for weights {reference.weights_digest}.",
        *report.fix_notes(runs.fix_set),
        f"Before it was written, it was run on {len(runs.runs)} samples of the incident, and gave the outputs that were"
        f" proven, within {runs.tolerance:.3g} of the largest logit.",
    ]


def _record(model: Model, runs: FixedRuns, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "about": list(notes),
        "model_forensics": version("model-forensics"),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "incident": runs.bundle_id,
        "fix_set": runs.fix_set.model_dump(mode="json"),
        "edited_from": model.reference.weights_digest,
        "samples": len(runs.runs),
    }
