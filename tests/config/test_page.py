"""docs/configuration.md says what the code does."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from model_forensics.config import Config, load_config
from model_forensics.config.variables import PREFIX, VARIABLES

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "ci"))


def test_the_tables_are_those_of_the_code():
    import configuration

    text = configuration.PAGE.read_text()
    assert len(configuration.BLOCK.findall(text)) == 2
    assert configuration.page(text) == text, "run: python ci/configuration.py --write"


def test_no_other_page_names_a_variable_that_is_not_in_the_table():
    at_build_time = {f"{PREFIX}CORE", f"{PREFIX}CUDA"}
    for page in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        named = set(re.findall(rf"\b{PREFIX}[A-Z_]+[A-Z]\b", page.read_text()))
        assert named <= VARIABLES.keys() | at_build_time, page


def test_the_example_is_the_defaults(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "configuration.md").read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "example.yaml").write_text(example[1])
    loaded = load_config(tmp_path / "example.yaml", environment={})
    assert loaded.file_version == "1.1"
    assert loaded.config == Config(log_file=loaded.config.log_file)


def test_the_schema_describes_every_key():
    schema = Config.model_json_schema()
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        for name, entry in section["properties"].items():
            assert "description" in entry or "$ref" in entry, name
        assert section["additionalProperties"] is False
