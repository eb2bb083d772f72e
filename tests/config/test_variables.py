"""The table of environment variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import model_forensics
from model_forensics.config import KEYS, load_config, parse_size, show_size, value_of
from model_forensics.config.variables import VARIABLES, secrets, unknown
from model_forensics.errors import ConfigError

PACKAGE = Path(model_forensics.__file__).parent
SET = {
    "device": ("cuda:3", "cuda:3"),
    "log_level": ("debug", "DEBUG"),
    "output_dir": ("a b", Path("a b")),
    "bundle_dir": ("bündel", Path("bündel")),
    "cache.enabled": ("false", False),
    "cache.size": ("10GB", 10**10),
    "streaming.enabled": ("1", True),
    "streaming.max_memory": ("16GB", 16 * 10**9),
    "audit_log": ("audit.jsonl", Path("audit.jsonl")),
}


def test_each_variable_with_a_key_sets_it():
    keyed = {variable.key: name for name, variable in VARIABLES.items() if variable.key}
    assert keyed.keys() == SET.keys() <= KEYS.keys()
    for key, (text, value) in SET.items():
        loaded = load_config(environment={keyed[key]: text})
        assert value_of(loaded.config, key) == value
        assert str(loaded.origins[key]) == keyed[key]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DEVICE", "gpu", "device: 'gpu' is no device: auto, cpu, cuda, or cuda:1 and so on."),
        ("LOG_LEVEL", "LOUD", "log_level: should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'."),
        ("OUTPUT_DIR", "a\0b", "output_dir: not a path."),
        ("BUNDLE_DIR", "a\0b", "bundle_dir: not a path."),
        ("AUDIT_LOG", "a\0b", "audit_log: not a path."),
        ("CACHE_ENABLED", "maybe", "cache.enabled: should be true or false."),
        ("CACHE_SIZE", "big", "cache.size: 'big' is no size; write it like 10GB or 512MiB."),
        ("STREAMING_ENABLED", "2", "streaming.enabled: should be true or false."),
        ("MAX_MEMORY", "16XB", "streaming.max_memory: '16XB' is no size; write it like 10GB or 512MiB."),
    ],
)
def test_a_wrong_value_is_refused_with_the_variable_and_what_would_be_right(variable, value, words):
    with pytest.raises(ConfigError) as refused:
        load_config(environment={f"MODEL_FORENSICS_{variable}": value})
    assert str(refused.value).startswith(f"MODEL_FORENSICS_{variable}: {words}")


def test_every_variable_that_the_code_names_is_in_the_table():
    sources = [*PACKAGE.rglob("*.py"), *(PACKAGE.parents[1] / "csrc").rglob("*.[ch]pp")]
    named = {name for file in sources for name in re.findall(r"\bMODEL_FORENSICS_[A-Z_]+[A-Z]\b", file.read_text())}
    at_build_time = {"MODEL_FORENSICS_CORE", "MODEL_FORENSICS_CUDA", "MODEL_FORENSICS_EMULATED_CUDA"}
    macros = {
        name
        for name in named
        if name not in VARIABLES and not any(name in f.read_text() for f in sources if f.suffix == ".py")
    }
    assert named - at_build_time - macros <= VARIABLES.keys()


def test_misspelt_variables_are_told():
    environment = {
        "MODEL_FORENSICS_OUTPUTDIR": "x",
        "MODEL_FORENSICS_DEVICE": "cpu",
        "OTHER": "1",
        "MODEL_FORENSICS_Q": "",
    }
    assert unknown(environment) == {
        "MODEL_FORENSICS_OUTPUTDIR": "MODEL_FORENSICS_OUTPUT_DIR",
        "MODEL_FORENSICS_Q": None,
    }


def test_the_keys_are_the_only_secrets():
    environment = dict.fromkeys(VARIABLES, "value") | {"MODEL_FORENSICS_ENCRYPTION_KEY": "secret"}
    environment["MODEL_FORENSICS_OLD_ENCRYPTION_KEY"] = "old"
    assert sorted(secrets(environment)) == ["old", "secret"]


@pytest.mark.parametrize("text", ["1B", "999", "500MB", "8GiB", "1.5kB", "16 gb", "3Ti", " 7k "])
def test_sizes_survive_their_own_text(text):
    assert parse_size(show_size(parse_size(text))) == parse_size(text)


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e9", "0", "0.5", "1 potato", "nan", "٣GB_", "1GB 2GB"])
def test_no_sizes(text):
    with pytest.raises(ValueError, match="no size"):
        parse_size(text)
