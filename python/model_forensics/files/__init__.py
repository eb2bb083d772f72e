"""Files: the one place that writes atomically and that reads tensor and JSON files without trusting them.

A leaf: knows neither bundles nor baselines. It needs NumPy, and `cryptography` (loaded late) for what is encrypted.
"""

from __future__ import annotations

from model_forensics.files._atomic import atomic_directory, atomic_write, storage_errors, sync_tree
from model_forensics.files._content import Content, FileIdentity, file_identity
from model_forensics.files._digest import sha256_bytes, sha256_file
from model_forensics.files._exchange import replace_directory
from model_forensics.files._json import dump_json, parse_json, read_json
from model_forensics.files._key import (
    KEY_VARIABLE,
    OLD_KEY_VARIABLE,
    EncryptionKey,
    encryption_key,
    old_encryption_key,
)
from model_forensics.files._metadata import keep_metadata
from model_forensics.files._open import open_regular
from model_forensics.files._open_content import open_content, pieces_of, read_content
from model_forensics.files._protected import is_protected, needed_key, read_protected, write_protected
from model_forensics.files._safetensors_read import (
    SafeTensors,
    TensorEntry,
    open_safetensors,
    parse_safetensors_header,
    read_safetensors_header,
)
from model_forensics.files._safetensors_write import (
    DTYPES,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    TAGS,
    TensorSource,
    widen_bfloat16,
    write_safetensors,
    write_safetensors_sources,
)
from model_forensics.files._sealed import SEALED_SUFFIX, Seal, Sink, content_size, create_file
from model_forensics.files._storage import Storage, holds

__all__ = [
    "DTYPES",
    "KEY_VARIABLE",
    "MAX_HEADER_BYTES",
    "MAX_TENSORS",
    "OLD_KEY_VARIABLE",
    "SEALED_SUFFIX",
    "TAGS",
    "Content",
    "EncryptionKey",
    "FileIdentity",
    "SafeTensors",
    "Seal",
    "Sink",
    "Storage",
    "TensorEntry",
    "TensorSource",
    "atomic_directory",
    "atomic_write",
    "content_size",
    "create_file",
    "dump_json",
    "encryption_key",
    "file_identity",
    "holds",
    "is_protected",
    "keep_metadata",
    "needed_key",
    "old_encryption_key",
    "open_content",
    "open_regular",
    "open_safetensors",
    "parse_json",
    "parse_safetensors_header",
    "pieces_of",
    "read_content",
    "read_json",
    "read_protected",
    "read_safetensors_header",
    "replace_directory",
    "sha256_bytes",
    "sha256_file",
    "storage_errors",
    "sync_tree",
    "widen_bfloat16",
    "write_protected",
    "write_safetensors",
    "write_safetensors_sources",
]
