"""One configuration from the defaults, a file, the environment and flags; the later of these wins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from model_forensics.config.checks import dotted, validated
from model_forensics.config.keys import KEYS, known
from model_forensics.config.schema import NEW_IN_1_1, VERSION, Config
from model_forensics.config.variables import CONFIG, VARIABLES, stated
from model_forensics.config.yaml_file import Document, read_yaml
from model_forensics.errors import ConfigError

OLD_VERSION = "1.0"


class Origin(NamedTuple):
    """Where a value came from.

    Attributes:
        kind: "default", "file", "variable" or "flag".
        name: the file and line, the variable, or the flag.
    """

    kind: str
    name: str | None = None

    def __str__(self) -> str:
        return self.kind if self.name is None else self.name


class Flag(NamedTuple):
    """A value that was given on the command line, and the flag's name."""

    name: str
    value: Any


@dataclass(frozen=True)
class Loaded:
    """A configuration and where it came from.

    Attributes:
        origins: for every key.
        file: the file that was read, if any.
        file_version: its version.
    """

    config: Config
    origins: Mapping[str, Origin]
    file: Path | None
    file_version: str | None

    def is_stated(self, key: str) -> bool:
        """Whether somebody asked for this key's value."""
        return self.origins[key].kind != "default"


class _Layer(NamedTuple):
    values: dict[str, Any]
    origins: dict[str, Origin]


def load_config(
    path: str | Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Flag] | None = None,
) -> Loaded:
    """The configuration of this process: flags over environment over file over defaults.

    Args:
        path: the file; by default the one that `MODEL_FORENSICS_CONFIG` names, or none.
        environment: by default the process's.
        flags: by the dotted key that each sets.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is not allowed; names file and line, variable
            or flag.
    """
    environment = os.environ if environment is None else environment
    variables = stated(environment)
    file = Path(path or variables[CONFIG]).expanduser() if path or CONFIG in variables else None
    version, layer = (None, _Layer({}, {})) if file is None else _from_file(file)
    for later in (_from_environment(variables), _from_flags(flags or {})):
        layer.values.update(later.values)
        layer.origins.update(later.origins)
    config = validated(layer.values, lambda key: _where(key, layer.origins, file))
    origins = {key: layer.origins.get(key, Origin("default")) for key in KEYS}
    return Loaded(config, origins, file, version)


def version_of(document: Document, file: Path) -> str:
    """The version that a file states, or that one without has.

    Raises:
        ConfigError: this release does not read it.
    """
    version = str(document.values.get("version", OLD_VERSION)).removeprefix("v")
    if version not in {OLD_VERSION, VERSION}:
        what = f"version {version} is none that this release reads: {OLD_VERSION} and {VERSION}"
        where = f"{file}:{document.lines['version']}"
        raise ConfigError(what, where=where, cure="Use the release that wrote it, or correct the version")
    return version


def _from_file(file: Path) -> tuple[str, _Layer]:
    document = read_yaml(file)
    version = version_of(document, file)
    if version == OLD_VERSION:
        for key in NEW_IN_1_1 & document.values.keys():
            what = f"{key} came with version {VERSION}, and this file is of version {OLD_VERSION}"
            cure = f'Run model-forensics migrate-config, or write version: "{VERSION}" at the top'
            raise ConfigError(what, where=f"{file}:{document.lines[key]}", cure=cure)
        document.values.pop("version", None)
    return version, _layer_of(document, file)


def check_as_current(document: Document, file: Path) -> None:
    """Whether a file, whatever version it states, says what this version reads.

    Raises:
        ConfigError: a key is unknown, or a value is not allowed; names file and line.
    """
    layer = _layer_of(document, file)
    validated({**layer.values, "version": VERSION}, lambda key: _where(key, layer.origins, file))


def _layer_of(document: Document, file: Path) -> _Layer:
    lines = {key: f"{file}:{line}" for key, line in document.lines.items()}
    values = dotted(document.values, lambda key: lines.get(key, file))
    return _Layer(values, {key: Origin("file", lines[_written(key, lines)]) for key in values})


def _written(key: str, lines: Mapping[str, str]) -> str:
    """The part of a key that the file has a line for: all of it, as a rule."""
    while key not in lines:
        key = key.rpartition(".")[0]
    return key


def _from_environment(variables: Mapping[str, str]) -> _Layer:
    keyed = {key: name for name in variables if (key := VARIABLES[name].key) is not None}
    values = {key: variables[name].strip() for key, name in keyed.items()}
    return _Layer(values, {key: Origin("variable", name) for key, name in keyed.items()})


def _from_flags(flags: Mapping[str, Flag]) -> _Layer:
    values = {key: flag.value for key, flag in flags.items()}
    return _Layer(values, {key: Origin("flag", flag.name) for key, flag in flags.items()})


def _where(key: str, origins: Mapping[str, Origin], file: Path | None) -> str | Path | None:
    """Of a key or of a section, some of whose keys contradict one another."""
    found = origins.get(key) or origins.get(known(key) or "")
    inside = [origin for name, origin in origins.items() if name.startswith(f"{key}.")]
    unknown = [origin for name, origin in origins.items() if key.startswith(f"{name}.")]
    return next((origin.name for origin in (found, *reversed(inside), *unknown) if origin is not None), file)
