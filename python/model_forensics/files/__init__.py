"""Files: the one place that writes atomically and that reads tensor and JSON files without trusting them.

A leaf: knows neither bundles nor baselines. It needs NumPy, and `cryptography` (loaded late) for what is encrypted.

    writing    `_atomic` whole directories and files, over `_exchange` (two names change places) and `_disk` (errors by
               name, fsync, metadata); `_unfinished` what is being written; `_lock` keeps other processes out of a place
    reading    `_open` a regular file and nothing else; `_content` what it holds, at any place; `_open_content` either
               kind of content, plain or encrypted; `_digest` of it
    formats    `_json`; `_safetensors_read`, `_safetensors_write`, and `_sealed_tensors` for encrypted ones
    encrypted  `_key`; `_sealed` the format and writing it, `_sealed_read` reading it; who uses it: `_protected` single
               files that keep their names (results, reports), `_storage` directories (bundles, baselines)
"""

from __future__ import annotations

from model_forensics.files._atomic import atomic_directory, atomic_files, atomic_write
from model_forensics.files._content import Content, FileIdentity, file_identity
from model_forensics.files._digest import sha256_bytes, sha256_file
from model_forensics.files._disk import keep_metadata, storage_errors, sync, sync_tree
from model_forensics.files._exchange import replace_directory
from model_forensics.files._json import dump_json, parse_json, read_json
from model_forensics.files._key import (
    KEY_VARIABLE,
    OLD_KEY_VARIABLE,
    EncryptionKey,
    encryption_key,
    old_encryption_key,
)
from model_forensics.files._lock import lock_directory
from model_forensics.files._open import open_regular
from model_forensics.files._open_content import open_content, pieces_of, read_content
from model_forensics.files._protected import (
    Document,
    is_protected,
    needed_key,
    read_protected,
    write_protected,
    write_together,
)
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
from model_forensics.files._sealed import SEALED_SUFFIX, Seal, Sink, content_size, create_file, sealed_size
from model_forensics.files._storage import Storage, holds
from model_forensics.files._unfinished import abandoned_in, remove_abandoned

__all__ = [
    "DTYPES",
    "KEY_VARIABLE",
    "MAX_HEADER_BYTES",
    "MAX_TENSORS",
    "OLD_KEY_VARIABLE",
    "SEALED_SUFFIX",
    "TAGS",
    "Content",
    "Document",
    "EncryptionKey",
    "FileIdentity",
    "SafeTensors",
    "Seal",
    "Sink",
    "Storage",
    "TensorEntry",
    "TensorSource",
    "abandoned_in",
    "atomic_directory",
    "atomic_files",
    "atomic_write",
    "content_size",
    "create_file",
    "dump_json",
    "encryption_key",
    "file_identity",
    "holds",
    "is_protected",
    "keep_metadata",
    "lock_directory",
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
    "remove_abandoned",
    "replace_directory",
    "sealed_size",
    "sha256_bytes",
    "sha256_file",
    "storage_errors",
    "sync",
    "sync_tree",
    "widen_bfloat16",
    "write_protected",
    "write_safetensors",
    "write_safetensors_sources",
    "write_together",
]
