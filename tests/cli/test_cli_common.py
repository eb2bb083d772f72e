"""What every command has: configuration, log, machine output, refusal to overwrite, and a clean end on Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model_forensics.cli.main import COMMANDS, main
from model_forensics.cli.options import FLAGS
from model_forensics.config import KEYS, Config
from model_forensics.store import LEDGER_FILE

PROGRAM = [sys.executable, "-c", "from model_forensics.cli.main import main; main(prog_name='model-forensics')"]
WITHOUT = {"completion"}  # prints a script, and nothing else


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MODEL_FORENSICS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def located(run, data, tmp_path):
    """Runs a quick analysis with these arguments."""
    return lambda *arguments: run("analyze", data / "incident", "--forensics-only", *arguments)


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - WITHOUT))
def test_every_command_has_the_common_options(name):
    command = main.get_command(None, name)
    names = {option for parameter in command.params for option in parameter.opts}
    assert {"--config", "--log-level", "--format", "--quiet", "--profile"} <= names


def test_each_flag_sets_a_key():
    assert FLAGS.keys() <= KEYS.keys()


def test_a_command_takes_file_environment_and_flags(located, tmp_path, monkeypatch):
    config = tmp_path / "konfig mit ö.yaml"
    config.write_text(
        f"seed: 7\ntimeout_minutes: 5\nmodules: {{cf: {{anomaly_threshold: 9}}}}\noutput_dir: {tmp_path}/a\n"
    )
    monkeypatch.setenv("MODEL_FORENSICS_OUTPUT_DIR", str(tmp_path / "b c"))
    done = located("--config", config, "--threshold", "3", "--format", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["environment"]["configuration"]
    assert (found["seed"], found["timeout_minutes"], found["modules"]["cf"]["anomaly_threshold"]) == (7, 5, 3)
    assert (tmp_path / "b c" / "incident.json").exists()


def test_a_broken_configuration_is_refused_by_every_command(run, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("devise: cpu\n")
    done = run("inspect", tmp_path, "--config", config)
    assert done.exit_code == 3
    assert f"{config}:1" in done.stderr
    assert "device" in done.stderr


def test_a_wrong_flag_is_a_matter_of_usage(located, tmp_path):
    done = located("--device", "tpu", "--output", tmp_path / "r.json")
    assert done.exit_code == 2
    assert "--device" in done.stderr


def test_a_beam_that_the_file_asks_for_may_have_a_width(run, data, tmp_path):
    (tmp_path / "c.yaml").write_text("modules: {cca: {search_strategy: beam}}\n")
    arguments = ["analyze", data / "incident", "--beam-width", "2", "--output", tmp_path / "none" / "x" / "r.html"]
    assert "--beam-width" in run(*arguments).stderr
    assert "--beam-width" not in run(*arguments, "--config", tmp_path / "c.yaml").stderr


def test_bundles_are_looked_for_in_bundle_dir(run, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("analyze", "incident", "--forensics-only").exit_code == 3
    monkeypatch.setenv("MODEL_FORENSICS_BUNDLE_DIR", str(data))
    assert run("analyze", "incident", "--forensics-only").exit_code == 0
    monkeypatch.setenv("MODEL_FORENSICS_BUNDLE_DIR", str(data / "incident"))
    assert "incident" in run("triage").stdout


# --- the log -----------------------------------------------------------------------------------


def test_the_log_has_the_columns_of_the_operators_pipeline(located, tmp_path, monkeypatch):
    log = tmp_path / "model_forensics.log"
    (tmp_path / "c.yaml").write_text(f'log_file: "{log}"\noutput_dir: {tmp_path}\n')
    done = located("--config", tmp_path / "c.yaml")
    assert done.exit_code == 0, done.output
    assert "execution_time" not in done.stderr
    shell = f"grep \"execution_time\" '{log}' | awk '{{print $5, $9, $11}}'"
    printed = subprocess.run(shell, shell=True, capture_output=True, text=True, check=True).stdout.splitlines()
    columns = [line.split() for line in printed]
    assert all(float(seconds) >= 0 for seconds, _, _ in columns)
    assert {bundle for _, bundle, _ in columns} == {"incident"}
    assert [stage for _, _, stage in columns] == ["baseline", "forensics", "model", "analysis"]


def test_log_levels_on_standard_error(located, tmp_path):
    output = ["--output", tmp_path / "r.json", "--force"]
    assert "execution_time= " not in located(*output).stderr
    assert "execution_time= " in located(*output, "--log-level", "info").stderr
    assert located(*output, "--log-level", "info", "--quiet").stderr == ""
    assert located(*output, "--log-level", "loud").exit_code == 2


def test_errors_are_in_the_log_too(run, tmp_path):
    (tmp_path / "c.yaml").write_text(f"log_file: {tmp_path}/x.log\n")
    done = run("inspect", tmp_path / "none", "--config", tmp_path / "c.yaml")
    assert done.exit_code == 3
    assert str(tmp_path / "none") in (tmp_path / "x.log").read_text()
    assert done.stderr.count("none") == 1


def test_a_log_that_cannot_be_written_is_named(run, data, tmp_path):
    (tmp_path / "c.yaml").write_text(f"log_file: {tmp_path}/c.yaml/x.log\n")
    done = run("inspect", data / "incident", "--config", tmp_path / "c.yaml")
    assert done.exit_code == 3
    assert "log_file" in done.stderr


def test_a_misspelt_variable_is_warned_of(run, data, monkeypatch):
    monkeypatch.setenv("MODEL_FORENSICS_OUTPUTDIR", "x")
    done = run("inspect", data / "incident")
    assert done.exit_code == 0
    assert "MODEL_FORENSICS_OUTPUT_DIR" in done.stderr


# --- output that is there ----------------------------------------------------------------------


def test_results_are_replaced_with_force_only(located, tmp_path):
    results, page = tmp_path / "r.json", tmp_path / "r.html"
    assert located("--output", results).exit_code == 0
    results.write_text("mine")
    for left in (results, page):
        refused = located("--output", results)
        assert refused.exit_code == 2
        assert "--force" in refused.stderr
        assert refused.stdout == ""
        left.rename(tmp_path / "aside")
        if left is results:
            results_text = (tmp_path / "aside").read_text()
            assert results_text == "mine"
    (tmp_path / "aside").rename(results)
    assert located("--output", results, "--force").exit_code == 0
    assert json.loads(results.read_text())["bundle_id"] == "incident"


def test_the_default_results_of_the_same_bundle_too(located, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located().exit_code == 0
    assert located().exit_code == 2
    assert located("--force").exit_code == 0


def test_a_report_is_replaced_with_force_only(run, located, tmp_path):
    results = tmp_path / "r.json"
    assert located("--output", results).exit_code == 0
    assert run("report", results).exit_code == 2
    done = run("report", results, "--force", "--format", "json")
    assert json.loads(done.stdout)["report"] == str(tmp_path / "r.html")


# --- ways out ----------------------------------------------------------------------------------


def interrupted(arguments: list[str], waiting_for: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Runs the program, sends it Ctrl-C when the log says that this began, and waits for its end."""
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in a background suite
        "from model_forensics.cli.main import main; main(prog_name='model-forensics')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    log = cwd / "x.log"
    try:
        while process.poll() is None and not (log.exists() and waiting_for in log.read_text()):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, printed, errors)


def test_ctrl_c_during_a_search_leaves_nothing(data, tmp_path):
    (tmp_path / "c.yaml").write_text("log_file: x.log\nmodules: {cca: {evidence: full}}\n")
    arguments = ["analyze", str(data / "incident"), "--donor-model", str(data / "reference"), "--config", "c.yaml"]
    done = interrupted([*arguments, "--output", "out/r.json"], "stage= model", tmp_path)
    assert done.returncode == 130, done.stderr
    assert done.stderr.decode().splitlines()[-1] == "interrupted"
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    assert not (tmp_path / "out").exists()


def test_colours_are_switched_off(data, tmp_path):
    def printed(**environment: str) -> bytes:
        parent, child = pty.openpty()
        settings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", **environment}
        arguments = [*PROGRAM, "triage", str(data / "incident")]
        process = subprocess.Popen(arguments, env=settings, stdin=child, stdout=child, stderr=child, cwd=tmp_path)
        os.close(child)
        content = b""
        while True:
            try:
                chunk = os.read(parent, 65536)
            except OSError:  # the other end has closed
                break
            if not chunk:
                break
            content += chunk
        os.close(parent)
        assert process.wait() == 0, content
        return content

    colours = re.compile(rb"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38|4[0-7]|48)[0-9;]*m")
    assert not colours.search(printed(NO_COLOR="1"))


# --- info, completion, migrate-config ----------------------------------------------------------


def test_info_says_where_each_value_came_from(run, tmp_path, monkeypatch):
    config = tmp_path / "c.yaml"
    config.write_text("seed: 5\nbundle_dir: x\n")
    monkeypatch.setenv("MODEL_FORENSICS_BUNDLE_DIR", "y")
    monkeypatch.setenv("MODEL_FORENSICS_ENCRYPTION_KEY", "A" * 43 + "=")
    done = run("info", "--config", config, "--device", "cpu", "--format", "json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["health"]["status"] in {"ok", "degraded"}
    values = facts["configuration"]["values"]
    assert values.keys() == KEYS.keys()
    assert values["seed"] == {"value": 5, "from": f"{config}:1", "kind": "file"}
    assert values["bundle_dir"] == {"value": "y", "from": "MODEL_FORENSICS_BUNDLE_DIR", "kind": "variable"}
    assert values["device"] == {"value": "cpu", "from": "--device", "kind": "flag"}
    assert values["log_level"]["from"] == "default"
    assert "A" * 43 not in done.output
    words = run("info", "--config", config).stdout
    assert re.search(r"seed +5 .*c\.yaml:1", words)
    assert "A" * 43 not in words


def test_info_prints_the_schema(run):
    done = run("info", "--schema")
    assert json.loads(done.stdout) == Config.model_json_schema()
    assert run("info", "--schema", "--verify-audit", "x").exit_code == 2


def test_info_verifies_an_audit_log(run, located, tmp_path, monkeypatch):
    audit = tmp_path / "audit.jsonl"
    monkeypatch.setenv("MODEL_FORENSICS_AUDIT_LOG", str(audit))
    assert located("--output", tmp_path / "r.json").exit_code == 0
    done = run("info", "--verify-audit", audit, "--format", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["lines"] >= 1
    assert "none changed" in run("info", "--verify-audit", audit).stdout
    audit.write_bytes(audit.read_bytes().replace(b"analyze", b"analyse", 1))
    refused = run("info", "--verify-audit", audit)
    assert refused.exit_code == 3
    assert str(audit) in refused.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run, shell):
    done = run("completion", shell)
    assert done.exit_code == 0
    assert f"_MODEL_FORENSICS_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"), [("model-forensics tri", "triage"), ("model-forensics triage --sort-", "--sort-by")]
)
def test_completion_completes(words, expected):
    settings = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_MODEL_FORENSICS_COMPLETE": "bash_complete"}
    done = subprocess.run(PROGRAM, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert f"plain,{expected}" in done.stdout.splitlines()


def test_migrate_config(run, tmp_path, monkeypatch):
    config = tmp_path / "c.yaml"
    config.write_text("seed: 5  # mine\n")
    monkeypatch.setenv("MODEL_FORENSICS_CONFIG", str(config))
    done = run("migrate-config", "--from", "v1.0", "--to", "v1.1")
    assert done.exit_code == 0, done.output
    assert '+version: "1.1"' in done.stdout.splitlines()
    assert "c.yaml.v1.0.bak" in done.stderr
    again = run("migrate-config", config, "--format", "json")
    assert (again.exit_code, json.loads(again.stdout)["diff"]) == (0, "")
    assert run("migrate-config", "--to", "v2.0", config).exit_code == 2
    monkeypatch.delenv("MODEL_FORENSICS_CONFIG")
    assert run("migrate-config").exit_code == 2


def test_migrate_config_runs_where_the_configuration_is_what_is_broken(run, tmp_path, monkeypatch):
    config = tmp_path / "c.yaml"
    config.write_text("cache: {enabled: false}\n")
    monkeypatch.setenv("MODEL_FORENSICS_CONFIG", str(config))
    refused = run("info", "--schema")
    assert refused.exit_code == 3
    assert "migrate-config" in refused.stderr
    other = tmp_path / "other.yaml"
    other.write_text("seed: 5\n")
    done = run("migrate-config", other)
    assert done.exit_code == 0, done.output
    assert "the configuration file is left out, because it is refused" in done.stderr
    done = run("migrate-config")
    assert done.exit_code == 0, done.output
    assert config.read_text() == 'version: "1.1"\ncache: {enabled: false}\n'
    assert run("info", "--schema").exit_code == 0
    config.write_text("devise: cpu\n")
    done = run("migrate-config", config)
    assert done.exit_code == 3
    assert f"error: {config}:1: devise is no key of the configuration. The nearest key is device" in done.stderr


# --- the demo ----------------------------------------------------------------------------------


def test_a_demo_replaces_what_is_about_its_incident_and_nothing_else(run, data, tmp_path, monkeypatch):
    results = tmp_path / "results.json"
    assert run("analyze", data / "incident", "--forensics-only", "--output", results).exit_code == 0
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = run("demo", "--output", tmp_path)
    assert done.exit_code == 0, done.output
    assert json.loads(results.read_text())["verdict"] == "cause_found"
    assert (tmp_path / LEDGER_FILE).exists()
    for content in ("{}", results.read_text().replace('"bundle_id": "incident"', '"bundle_id": "mine"')):
        results.write_text(content)
        refused = run("demo", "--output", tmp_path)
        assert refused.exit_code == 2
        assert "--force" in refused.stderr
        assert results.read_text() == content
    assert not list((tmp_path / "empty").iterdir())  # everything is in its output directory


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "model_forensics", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "version" in done.stdout
