"""Canonical site names: `embed`, `L3.attn`, `L3.head5`, `L3.neuron812`, `final_norm`, `logits`, and module paths."""

from __future__ import annotations

import re
from dataclasses import dataclass

from model_forensics.errors import UnknownSite
from model_forensics.types import SiteKind

_POSITION = re.compile(r"^(?P<site>.*)@(?P<position>-?\d{1,9})$")
_LAYERED = re.compile(r"^L(?P<layer>\d{1,6})\.(?P<kind>attn|mlp|resid|head|neuron)(?P<index>\d{1,9})?$")
_PLAIN: dict[str, SiteKind] = {"embed": "embed", "final_norm": "final_norm", "logits": "logits"}
_KINDS: dict[str, SiteKind] = {"attn": "attn", "mlp": "mlp", "resid": "resid", "head": "head", "neuron": "neuron"}
_INDEXED = ("head", "neuron")


@dataclass(frozen=True, slots=True)
class SiteName:
    """A parsed site name.

    Attributes:
        name: the name without its position.
        kind: `module` when the name is a module path.
        layer: block number from 0, for names that start with `L<layer>.`.
        index: number of the head or neuron.
        position: token position from `@7` or `@-1`, counted among the sample's own tokens.
    """

    name: str
    kind: SiteKind
    layer: int | None = None
    index: int | None = None
    position: int | None = None


def parse_site_name(text: str) -> SiteName:
    """Splits a site name into its parts; anything that is no canonical name is taken as a module path.

    Raises:
        UnknownSite: the name is empty, or starts like a canonical name and is none (`L3.head`, `L3.attn5`).
    """
    position: int | None = None
    name = text
    with_position = _POSITION.match(text)
    if with_position:
        name, position = with_position["site"], int(with_position["position"])
    if not name or "@" in name:
        raise UnknownSite(
            f"{text!r} is no site name", cure="Write a site such as L3.mlp, with a token position L3.mlp@-1"
        )
    if name in _PLAIN:
        return SiteName(name, _PLAIN[name], position=position)
    layered = _LAYERED.match(name)
    if layered is None:
        return SiteName(name, "module", position=position)
    kind = layered["kind"]
    if (layered["index"] is not None) != (kind in _INDEXED):
        raise UnknownSite(
            f"{text!r} is no site name",
            cure="Heads and neurons carry a number (L3.head5, L3.neuron812), attn, mlp and resid none",
        )
    index = None if layered["index"] is None else int(layered["index"])
    return SiteName(name, _KINDS[kind], int(layered["layer"]), index, position)
