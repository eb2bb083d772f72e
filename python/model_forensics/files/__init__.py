"""Files: the one place that writes atomically and that reads tensor and JSON files without trusting them.

A leaf: needs NumPy and the standard library only, knows neither bundles nor baselines.
"""

from __future__ import annotations

from model_forensics.files._atomic import atomic_directory, atomic_write, storage_errors, sync_tree
from model_forensics.files._digest import sha256_bytes, sha256_file
from model_forensics.files._exchange import replace_directory
from model_forensics.files._json import dump_json, parse_json, read_json
from model_forensics.files._open import open_regular
from model_forensics.files._safetensors_read import (
    MAX_HEADER_BYTES,
    FileIdentity,
    SafeTensors,
    TensorEntry,
    file_identity,
    open_safetensors,
    parse_safetensors_header,
    read_safetensors_header,
)
from model_forensics.files._safetensors_write import (
    DTYPES,
    TAGS,
    TensorSource,
    widen_bfloat16,
    write_safetensors,
    write_safetensors_sources,
)

__all__ = [
    "DTYPES",
    "MAX_HEADER_BYTES",
    "TAGS",
    "FileIdentity",
    "SafeTensors",
    "TensorEntry",
    "TensorSource",
    "atomic_directory",
    "atomic_write",
    "dump_json",
    "file_identity",
    "open_regular",
    "open_safetensors",
    "parse_json",
    "parse_safetensors_header",
    "read_json",
    "read_safetensors_header",
    "replace_directory",
    "sha256_bytes",
    "sha256_file",
    "storage_errors",
    "sync_tree",
    "widen_bfloat16",
    "write_safetensors",
    "write_safetensors_sources",
]
