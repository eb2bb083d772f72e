"""The typed configuration: its shape (`schema`), where it comes from (`load`, `variables`), older files (`migrate`)."""

from __future__ import annotations

from model_forensics.config.keys import KEYS, value_of
from model_forensics.config.load import Flag, Loaded, Origin, load_config
from model_forensics.config.schema import (
    CacheConfig,
    CausalConfig,
    CompressionMethod,
    Config,
    ForensicsConfig,
    ModulesConfig,
    StreamingConfig,
)
from model_forensics.config.sizes import parse_size, show_size

__all__ = [
    "KEYS",
    "CacheConfig",
    "CausalConfig",
    "CompressionMethod",
    "Config",
    "Flag",
    "ForensicsConfig",
    "Loaded",
    "ModulesConfig",
    "Origin",
    "StreamingConfig",
    "load_config",
    "parse_size",
    "show_size",
    "value_of",
]
