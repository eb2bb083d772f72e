"""The bundle format on disk: a directory ↔ a `Recording`. Needs no torch. Specified in docs/bundle-format.md."""

from __future__ import annotations

from model_forensics.bundle.archive import compress_bundles
from model_forensics.bundle.compress import Compression
from model_forensics.bundle.memory import MemoryRecording
from model_forensics.bundle.reader import (
    Bundle,
    find_bundle_names,
    find_bundles,
    is_bundle,
    load_bundle,
    load_bundles,
    manifest_digest,
)
from model_forensics.bundle.schema import FORMAT_VERSION, Codec, Encryption, Manifest
from model_forensics.bundle.shelf import Shelf
from model_forensics.bundle.writer import BundleWriter, CallSample

__all__ = [
    "FORMAT_VERSION",
    "Bundle",
    "BundleWriter",
    "CallSample",
    "Codec",
    "Compression",
    "Encryption",
    "Manifest",
    "MemoryRecording",
    "Shelf",
    "compress_bundles",
    "find_bundle_names",
    "find_bundles",
    "is_bundle",
    "load_bundle",
    "load_bundles",
    "manifest_digest",
]
