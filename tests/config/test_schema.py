"""Configurations that contradict themselves are refused, with the key and the reason."""

from __future__ import annotations

import pytest

from model_forensics.config import Config
from model_forensics.errors import ConfigError


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"max_fix_set_size": 0}, "modules.cca.max_fix_set_size"),
        ({"early_stop_threshold": 0}, "early_stop_threshold"),
        ({"early_stop_threshold": 1.1}, "early_stop_threshold"),
        ({"intervention_types": []}, "intervention_types"),
        ({"intervention_types": ["zero", "zero"]}, "twice"),
        ({"intervention_types": ["noise"]}, "intervention_types"),
        ({"search_strategy": "exhaustive"}, "search_strategy"),
        ({"beam_width": 0}, "beam_width"),
        ({"max_alternatives": -1}, "max_alternatives"),
        ({"max_stage_sets": 0}, "max_stage_sets"),
        ({"donor": "contrast", "intervention_types": ["zero"]}, "'patch' is not allowed"),
        ({"donor": "sample"}, "donor"),
    ],
    ids=str,
)
def test_impossible_searches(section, words):
    with pytest.raises(ConfigError, match=words):
        Config.from_dict({"modules": {"cca": section}})


@pytest.mark.parametrize("minutes", [0, -1])
def test_no_time_at_all(minutes):
    with pytest.raises(ConfigError, match="timeout_minutes"):
        Config.from_dict({"timeout_minutes": minutes})


def test_a_configuration_survives_its_own_document():
    config = Config.from_dict({"modules": {"cca": {"search_strategy": "beam", "beam_width": 3, "donor": "contrast"}}})
    assert Config.from_dict(config.model_dump(mode="json")) == config
