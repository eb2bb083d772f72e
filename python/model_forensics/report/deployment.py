"""What an exported fix says about itself: what it does, what was measured, what it does not do."""

from __future__ import annotations

from model_forensics.report.numbers import rate
from model_forensics.report.words import copied, effect, side_effects, suppressed
from model_forensics.types import FixSet


def fix_notes(fix: FixSet) -> list[str]:
    """Paragraphs for whoever opens the export."""
    limits = []
    if fix.label == "workaround":
        limits.append(
            "It removes the failure without restoring the computation "
            f"(recovery {rate(fix.recovery)}), so what is broken stays broken."
        )
    if fix.label == "answer_copied":
        limits.append(f"It merely brings its donor's answer along ({copied(fix)}).")
    if any(
        one.kind == "patch" and one.donor is not None and one.donor.kind == "benign_sample" for one in fix.interventions
    ):
        limits.append("Its values were recorded for the inputs below; other inputs it leaves as they are.")
    return [
        "What it does: " + " ".join([effect(fix), *suppressed(fix)]),
        side_effects(fix),
        *(["What it does not do: " + " ".join(limits)] if limits else []),
    ]
