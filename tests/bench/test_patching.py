"""The patching benchmark compares results before it reports, and reports everything that it promises."""

from __future__ import annotations

import json

import pytest
import torch

from bench import patching, patching_models


def tiny() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 4}
    config = GPT2Config(**sizes, bos_token_id=None, eos_token_id=None, architectures=["GPT2LMHeadModel"])
    return GPT2LMHeadModel(config).eval()


def test_every_number_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(patching_models.SHAPES, "gpt2", tiny)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # of the whole process
    output = tmp_path / "out.json"
    arguments = ["--tokens", "6", "--rounds", "1", "--sample", "5", "--rows", "8", "--beam", "--unembedding"]
    assert patching.main([*arguments, "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    assert result["patches"] == 3 * 2 * 6
    assert result["execution"]["from_middle"]
    assert result["ratio"]["plain hooks"] > 0
    assert result["self_check_max_error"] <= 5e-6
    assert result["beam_seconds"] > 0
    assert 0 < result["unembedding_share"] < 1
    assert "plain hooks" in capsys.readouterr().out


def test_a_share_is_of_the_modules_own_time(monkeypatch):
    """A clock that only the modules move: three of four seconds in the second one."""
    now = [0.0]
    monkeypatch.setattr(patching.time, "perf_counter", lambda: now[0])

    class Takes(torch.nn.Module):
        def __init__(self, seconds):
            super().__init__()
            self.seconds = seconds

        def forward(self, x):
            now[0] += self.seconds
            return x

    first, second = Takes(1.0), Takes(1.5)
    share = patching.share_of(second, lambda: second(second(first(torch.zeros(1)))))
    assert share == 0.75
    assert not second._forward_hooks


def test_a_wrong_contender_is_not_reported(monkeypatch):
    monkeypatch.setitem(patching_models.SHAPES, "gpt2", tiny)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    right = patching.plain_hooks
    monkeypatch.setattr(
        patching, "plain_hooks", lambda *given: lambda patches: [x + 0.1 for x in right(*given)(patches)]
    )
    with pytest.raises(AssertionError, match="plain hooks differs"):
        patching.main(["--tokens", "6", "--rounds", "1", "--sample", "5"])
