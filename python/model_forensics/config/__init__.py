"""The typed configuration: what it holds (`schema`)."""

from __future__ import annotations

from model_forensics.config.schema import CausalConfig, CompressionMethod, Config, ForensicsConfig, ModulesConfig

__all__ = ["CausalConfig", "CompressionMethod", "Config", "ForensicsConfig", "ModulesConfig"]
