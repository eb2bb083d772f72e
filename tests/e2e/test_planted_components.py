"""The tool names what was damaged, wherever the damage is."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_forensics import RCAPipeline
from model_forensics.types import AnalysisResult


def check_names(result: AnalysisResult, site: str) -> None:
    assert result.verdict == "cause_found", result.warnings
    assert result.fix_set is not None
    assert [intervention.site for intervention in result.fix_set.interventions] == [site]
    assert result.fix_set.label == "cause"
    assert result.fix_set.flips == result.fix_set.samples
    assert result.fix_set.recovery is not None
    assert result.fix_set.recovery >= 0.9
    assert result.evidence.replay is not None
    assert result.evidence.replay.reproduced
    assert result.onset is not None
    assert result.onset.site == site
    assert result.export_path is not None
    assert Path(result.export_path).is_file()


@pytest.mark.parametrize("component", ["attn", "mlp"])
@pytest.mark.parametrize("layer", range(4))
def test_demo_transformer(demo_reference, tmp_path: Path, layer: int, component: str) -> None:
    from model_forensics.demo.make import make_incident

    incident, benign = make_incident(demo_reference.module, tmp_path, layer=layer, component=component, seed=layer + 1)
    result = RCAPipeline().analyze_incident(incident, benign, output=tmp_path / "results.json")
    check_names(result, f"L{layer}.{component}")
    assert result.version_difference is not None
    assert any(f"h.{layer}.{component}.c_proj" in name for name in result.version_difference.tensors or ())


@pytest.mark.slow
@pytest.mark.parametrize("component", ["attn", "mlp"])
@pytest.mark.parametrize("layer", range(6))
def test_pretrained_sentence_encoder(intact_encoder: Path, tmp_path: Path, layer: int, component: str) -> None:
    import sentence_labels

    damaged = tmp_path / "damaged"
    sentence_labels.save_damaged(intact_encoder, damaged, layer, component)
    incident, benign = sentence_labels.record(intact_encoder, damaged, tmp_path)
    result = RCAPipeline().analyze_incident(
        incident,
        benign,
        damaged,
        donor_model=intact_encoder,
        model_factory="sentence_labels:classifier",
        output=tmp_path / "results.json",
    )
    check_names(result, f"L{layer}.{component}")
    assert result.fix_set is not None
    assert result.fix_set.interventions[0].donor is not None
    assert result.fix_set.interventions[0].donor.kind == "reference_model"
