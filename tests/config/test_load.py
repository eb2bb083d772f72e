"""Where values come from, which of them wins, and files that are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model_forensics.config import KEYS, Config, Flag, Origin, load_config
from model_forensics.errors import ConfigError, UnsafeFileError

SHAPE = """
bundle_dir: "./bundles"
output_dir: "./analysis_results"
device: "auto"            # auto, cpu, cuda, cuda:1
timeout_minutes: 120
modules:
  cf:  {enabled: true, anomaly_threshold: 2.0, compression_methods: ["zlib", "gzip", "arithmetic"], entropy_window: 256, baseline_samples: 50}
  cca: {enabled: true, search_strategy: "greedy", max_fix_set_size: 5, early_stop_threshold: 0.8, intervention_types: ["zero", "mean", "patch"]}
  isc: {enabled: false}
  dbc: {enabled: false}
  provenance: {enabled: false}
log_level: "INFO"
log_file: "model_forensics.log"
"""  # noqa: E501  (as operators have it)


@pytest.fixture
def write(tmp_path: Path):
    def one(text: str | bytes, name: str = "für alle.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return one


def refused(path: Path, **more) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, **{"environment": {}, **more})
    return caught.value


def test_the_operators_file_is_version_1_0_and_says_what_the_defaults_are(write):
    loaded = load_config(write(SHAPE), environment={})
    assert loaded.file_version == "1.0"
    assert loaded.config == Config(log_file="model_forensics.log")


def test_nothing_at_all_is_the_defaults():
    loaded = load_config(environment={})
    assert loaded.config == Config()
    assert loaded.origins == {key: Origin("default") for key in KEYS}
    assert loaded.file is None


def test_flags_win_over_the_environment_over_the_file_over_the_defaults(write):
    text = "version: 1.1\ndevice: cuda:1\nseed: 1\noutput_dir: out\ncache: {size: 1GB}\n"
    path = write(text)
    environment = {"MODEL_FORENSICS_DEVICE": "cuda:2", "MODEL_FORENSICS_CACHE_SIZE": "2GB"}
    loaded = load_config(path, environment=environment, flags={"device": Flag("--device", "cpu")})
    assert (loaded.config.device, loaded.config.cache.size, loaded.config.seed) == ("cpu", 2 * 10**9, 1)
    origins = {key: str(loaded.origins[key]) for key in ("device", "cache.size", "seed", "log_level")}
    assert origins == {
        "device": "--device",
        "cache.size": "MODEL_FORENSICS_CACHE_SIZE",
        "seed": f"{path}:3",
        "log_level": "default",
    }
    assert loaded.is_stated("device")
    assert not loaded.is_stated("log_level")


def test_the_file_that_the_environment_names(write, monkeypatch):
    monkeypatch.setenv("MODEL_FORENSICS_CONFIG", str(write("seed: 5\n")))
    assert load_config().config.seed == 5
    assert load_config(write("seed: 6\n", "other.yaml")).config.seed == 6


def test_empty_variables_are_not_set():
    assert load_config(environment={"MODEL_FORENSICS_DEVICE": "  ", "MODEL_FORENSICS_CONFIG": ""}).config == Config()


def test_only_stated_memory_limits_a_search():
    assert load_config(environment={}).config.streaming.stated_max_memory is None
    environment = {"MODEL_FORENSICS_MAX_MEMORY": "16GB"}  # also where it says what the default says
    assert load_config(environment=environment).config.streaming.stated_max_memory == 16 * 10**9


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("seed: 1\nmodules:\n  cf: {anomaly_treshold: 2}\n", 3, "modules.cf.anomaly_threshold"),
        ("anomaly_threshold: 2\n", 1, "modules.cf.anomaly_threshold"),
        ("modules:\n  ccaa:\n    enabled: true\n", 2, "modules.cca"),
        ("outputdir: x\n", 1, "output_dir"),
        ("zzz: x\n", 1, "docs/configuration.md"),
        ("seed: -1\n", 1, "seed"),
        ("\n\ndevice: tpu\n", 3, "cuda:1"),
        ("timeout_minutes: .nan\n", 1, "finite"),
        ("output_dir: ''\n", 1, "not a path"),
        ("modules: 3\n", 1, "a section"),
        ("modules.cf.enabled: true\n", 1, "a name with a dot"),
        ("modules:\n  isc: {enabled: true}\n", 2, "not in this version"),
        ("modules:\n  dbc: {enabled: true}\n", 2, "not in this version"),
        ("modules:\n  provenance: {enabled: true}\n", 2, "not in this version"),
        ("modules:\n  cca:\n    seed: 1\n    donor_sample: a\n", 3, "modules.cca.seed"),
        ("modules:\n  cca:\n    donor_sample: a\n", 3, "donor is 'auto'"),
        ("device: cpu\ndevice: cpu\n", 2, "twice"),
        ("modules:\n  cf: {enabled: true}\n  cf: {enabled: true}\n", 3, "modules.cf is there twice"),
        ("bundle_dir: &a x\noutput_dir: *a\n", 2, "aliases"),
        ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 2, "aliases"),
        ("[" * 5000, 1, "nested"),
        ("{a: " * 5000, 1, "nested"),
        ("device: !!python/object/apply:os.system [x]\n", 1, "tag"),
        ("- device\n", 1, "no keys"),
        ("? [a]\n: b\n", 1, "no name"),
        ("seed: 1\n  bad: 2\n", 2, "mapping values"),
        ("version: 2\n", 1, "1.0 and 1.1"),
        ("version:\n", 1, "1.0 and 1.1"),
        ("cache: {size: 1GB}\n", 1, "migrate-config"),
        ("version: 1.0\naudit_log: x\n", 2, "migrate-config"),
        ("version: 1.1\ncache: {size: 3 potatoes}\n", 2, "10GB"),
        ("version: 1.1\ncache: {size: 0}\n", 2, "cache.size"),
        ("version: 1.1\ncache: {size: true}\n", 2, "cache.size"),
    ],
)
def test_refused_with_file_line_and_cure(write, text, line, words):
    path = write(text)
    error = refused(path)
    assert error.where == f"{path}:{line}"
    assert words in str(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#" * 70_000, "64 KiB"),
        ("device: cpü\n".encode("latin-1"), "UTF-8"),
        (b"device: \0\n", "YAML"),
        (b"device: 2001-99-99\n", "YAML"),
    ],
)
def test_refused_as_a_whole(write, content, words):
    path = write(content)
    error = refused(path)
    assert str(path) in str(error)
    assert words in str(error)


def test_what_is_no_file(tmp_path):
    assert "no such configuration file" in str(refused(tmp_path / "none.yaml"))
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UnsafeFileError, match="regular"):
            load_config(path, environment={})


def test_a_link_is_followed(write, tmp_path):
    (tmp_path / "link.yaml").symlink_to(write("seed: 3\n"))
    assert load_config(tmp_path / "link.yaml", environment={}).config.seed == 3


def test_a_wrong_value_names_its_variable_or_flag(write):
    path = write("device: cpu\n")
    assert refused(path, environment={"MODEL_FORENSICS_DEVICE": "tpu"}).where == "MODEL_FORENSICS_DEVICE"
    assert (
        refused(path, environment={"MODEL_FORENSICS_CACHE_ENABLED": "maybe"}).where == "MODEL_FORENSICS_CACHE_ENABLED"
    )
    assert refused(path, flags={"seed": Flag("--seed", -1)}).where == "--seed"


def test_an_empty_file_and_empty_sections_are_the_defaults(write):
    for text in ("", "# nothing\n", "modules:\n", "modules: {}\n", "---\n"):
        assert load_config(write(text), environment={}).config == Config()


def test_dictionaries_are_checked_alike():
    with pytest.raises(ConfigError, match=r"The nearest key is modules\.cca\.beam_width"):
        Config.from_dict({"modules": {"cca": {"beamwidth": 3}}})
    assert Config.from_dict({"cache": {"size": "1GB"}}).cache.size == 10**9  # no version: it is of this one
    assert Config.from_dict(Config().model_dump(mode="json")) == Config()
