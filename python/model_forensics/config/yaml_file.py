"""Reads a YAML file that may be wrong or hostile: small, plain, without aliases, every key once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from model_forensics.errors import ConfigError
from model_forensics.files import open_regular

MAX_BYTES = 64 << 10
MAX_DEPTH = 16
_PLAIN = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


class Document(NamedTuple):
    """What a YAML file says.

    Attributes:
        values: sections and keys.
        lines: the line of each key, by its dotted name; from 1.
        text: the file itself.
        first: where the first key begins, as an index into `text`; None where there is none.
        flow: whether the document is written in braces.
        version: where the value of the key `version` begins and ends; None without that key.
    """

    values: dict[str, Any]
    lines: dict[str, int]
    text: str
    first: int | None
    flow: bool
    version: tuple[int, int] | None = None


def read_yaml(path: Path) -> Document:
    """Reads one file.

    Raises:
        ConfigError: it is missing, too large, not UTF-8, not YAML, or not a document of sections and keys; a key is
            there twice; an alias is used. Names file and line.
    """
    if not path.exists():
        cure = "Check the path in --config or MODEL_FORENSICS_CONFIG"
        raise ConfigError("there is no such configuration file", where=path, cure=cure)
    # A link is followed here: mounted configurations are links as a rule.
    with open_regular(path.resolve(), error=ConfigError) as descriptor, os.fdopen(os.dup(descriptor), "rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"is larger than {MAX_BYTES >> 10} KiB", where=path, cure="Pass a configuration file")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ConfigError(f"is not UTF-8: {problem.reason}", where=path, cure="Save it as UTF-8") from problem
    return _parsed(text, path)


def _parsed(text: str, path: Path) -> Document:
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return Document({}, {}, text, None, False)
        if not isinstance(node, yaml.MappingNode):
            raise _Refused("the file holds no keys", node.start_mark)
        lines: dict[str, int] = {}
        values = _plain(loader, node, "", lines)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = str(path) if mark is None else f"{path}:{mark.line + 1}"
        what = problem.problem or problem.context or "not YAML"
        raise ConfigError(what, where=where, cure="Correct this line") from problem
    except (yaml.YAMLError, ValueError) as problem:  # an impossible character, or a date that is none
        raise ConfigError(f"not YAML: {problem}", where=path, cure="Correct the file") from problem
    finally:
        if loader is not None:
            loader.dispose()
    first = node.value[0][0].start_mark.index if node.value else None
    spans = (value for name, value in node.value if name.value == "version")
    version = next(((value.start_mark.index, value.end_mark.index) for value in spans), None)
    return Document(values, lines, text, first, bool(node.flow_style), version)


class _Refused(yaml.MarkedYAMLError):
    def __init__(self, what: str, mark: Any) -> None:
        super().__init__(problem=what, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise self._refused("aliases (*name) are not read: write the value out")
        if self._depth >= MAX_DEPTH:
            raise self._refused(f"nested more than {MAX_DEPTH} deep")
        self._depth += 1
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
            return node
        finally:
            self._depth -= 1

    def _refused(self, what: str) -> _Refused:
        return _Refused(what, self.peek_event().start_mark)  # type: ignore[no-untyped-call]


def _plain(loader: _Loader, node: yaml.Node, key: str, lines: dict[str, int]) -> Any:
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN:
        raise _Refused(f"the tag {node.tag} is not read", node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, one, f"{key}.{number}", lines) for number, one in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    values: dict[str, Any] = {}
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            raise _Refused("a key that is no name", name.start_mark)
        if name.value in values:
            raise _Refused(f"{f'{key}.{name.value}'.lstrip('.')} is there twice", name.start_mark)
        inner = f"{key}.{name.value}".lstrip(".")
        lines[inner] = name.start_mark.line + 1
        values[name.value] = _plain(loader, value, inner, lines)
    return values
