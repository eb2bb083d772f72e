"""Format 1.0: the manifest's fields and the names of a bundle's files. Specified in docs/bundle-format.md."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

from model_forensics.errors import BundleFormatError, BundleVersionError, UnsafeFileError
from model_forensics.failure import Failure
from model_forensics.files import parse_json, sha256_bytes
from model_forensics.types import BundleKind, Frozen, ModelReference, Sample, SiteInfo, SiteKind

FORMAT_VERSION: Final = "1.0"
Codec = Literal["none", "arithmetic"]
CODECS: Final[tuple[Codec, ...]] = get_args(Codec)
SEALED: Final = "aes256-gcm-hkdf-1mb"
Encryption = Literal["none", "aes256-gcm-hkdf-1mb"]
CODED_SUFFIX: Final = ".mfa"
MANIFEST: Final = "manifest.json"
SAMPLES: Final = "samples.jsonl"
INPUTS: Final = "inputs.safetensors"
OUTPUTS: Final = "outputs.safetensors"
ACTIVATIONS: Final = "activations"
OFFSETS: Final = "activations/offsets.safetensors"
SHARD: Final = re.compile(r"activations/[0-9]{3,6}\.safetensors")
ALWAYS: Final = (SAMPLES, INPUTS, OUTPUTS)
MAX_SITES: Final = 1 << 16
MAX_OUTPUTS: Final = 1 << 10
MAX_FILES: Final = 1 << 12  # of about 1 GiB each, as a rule
_OTHER_BRACES: Final = 1 << 12  # in a manifest's text beside those of sites and files
CURE: Final = "Record it again, or restore the bundle from an intact copy"

# Storage tag and NumPy dtype of each site dtype; bfloat16 is stored and passed as its bit patterns.
SITE_DTYPES: Final[dict[str, tuple[str, np.dtype[Any]]]] = {
    "float64": ("F64", np.dtype("<f8")),
    "float32": ("F32", np.dtype("<f4")),
    "float16": ("F16", np.dtype("<f2")),
    "bfloat16": ("BF16", np.dtype("<u2")),
}
INDEX_TAGS: Final = ("U16", "U32", "I64")

Count = Annotated[int, Field(ge=0, lt=1 << 48)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
# Invisible characters that reorder what is shown (bidirectional controls) or break its lines, and C0 and C1 controls.
UNSHOWABLE: Final = "\x00-\x1f\x7f-\x9f\u200e\u200f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff"
BundleId = Annotated[str, StringConstraints(pattern=rf"^[^{UNSHOWABLE}/\\]{{1,200}}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=rf"^[^{UNSHOWABLE}]*$")]
_LAYER_SITE = re.compile(r"L(\d{1,6})\.(attn|mlp|resid|head\d{1,9}|neuron\d{1,9})")
_WHOLE_SITES: Final[dict[str, SiteKind]] = {"embed": "embed", "final_norm": "final_norm", "logits": "logits"}


class FileEntry(Frozen):
    """Size and digest of one file's content."""

    sha256: Digest
    bytes: Count


class SiteEntry(Frozen):
    """One recorded site: the fields of `SiteInfo`, and where its data is."""

    name: Name
    module: Annotated[str, StringConstraints(max_length=4096)]
    kind: SiteKind
    layer: Annotated[int, Field(ge=0, lt=1 << 20)] | None
    features: Annotated[int, Field(ge=1, lt=1 << 31)]
    dtype: Literal["float64", "float32", "float16", "bfloat16"]
    layout: Literal["dense", "sparse"]
    file: str
    rows: Count | None  # row of `rows` and `present` in the offsets file; null: token_offsets
    entries: Count | None  # row of `entries` in the offsets file; null exactly for dense sites

    def info(self) -> SiteInfo:
        return SiteInfo(
            name=self.name,
            module=self.module,
            kind=self.kind,
            layer=self.layer,
            features=self.features,
            dtype=self.dtype,
            layout=self.layout,
        )


class Manifest(Frozen):
    """`manifest.json`. Every field is required; unknown ones are refused."""

    format_version: Literal["1.0"]
    bundle_id: BundleId
    kind: BundleKind
    created_at: AwareDatetime
    model: ModelReference | None
    failure: Failure | None
    sites: Annotated[tuple[SiteEntry, ...], Field(max_length=MAX_SITES)]
    samples: Annotated[int, Field(ge=1, lt=1 << 31)]
    calls: Annotated[int, Field(ge=1, lt=1 << 31)]
    token_offsets: tuple[Count, ...]
    environment: dict[str, str]
    codec: Codec
    encryption: Encryption
    files: Annotated[dict[str, FileEntry], Field(max_length=MAX_FILES)]

    @cached_property
    def braces(self) -> Mapping[str, int]:
        """Opening braces that the tensors of each activation file have in its header: one each, and those of names."""
        found: Counter[str] = Counter()
        for site in self.sites:
            found[site.file] += (1 if site.entries is None else 2) * (1 + site.name.count("{"))
        return found

    def stored_name(self, name: str) -> str:
        """The name that a file of `files` has on disk, but for the suffix of encrypted ones."""
        return name + CODED_SUFFIX if self.is_coded(name) else name

    def is_coded(self, name: str) -> bool:
        return self.codec != "none" and name.endswith(".safetensors")


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Check a manifest by itself, without looking at the other files.

    Raises:
        BundleFormatError: invalid JSON, missing, unknown or wrong fields, or fields that contradict one another.
        BundleVersionError: a format version, codec or encryption that this release does not read.
        UnsafeFileError: a file name that leaves the bundle.
    """
    if data.count(b"{") > MAX_SITES + MAX_FILES + _OTHER_BRACES:  # before it becomes many times larger objects
        what = f"more than {MAX_SITES:,} sites and {MAX_FILES:,} files"
        raise BundleFormatError(what, where=where, cure="Record fewer sites in a bundle")
    value = parse_json(data, where=where)
    if not isinstance(value, dict):
        raise BundleFormatError("the manifest is not a JSON object", where=where, cure=CURE)
    _check_version(value, where)
    files = value.get("files")
    if isinstance(files, dict):
        _check_file_names(files, where)
    try:
        manifest = Manifest.model_validate_json(data, strict=True)
    except ValidationError as problem:
        raise BundleFormatError(in_words(problem), where=where, cure=CURE) from problem
    _check_consistency(manifest, where)
    return manifest


def content_digest(manifest: bytes) -> str:
    """`sha256:…` of a checked manifest without what says how the bytes are stored.

    The manifest lists the digest of every file's content, so this pins the whole bundle, compressed or not.
    """
    content = {field: value for field, value in json.loads(manifest).items() if field not in ("codec", "encryption")}
    return sha256_bytes(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def parse_samples(data: bytes, where: str, count: int) -> tuple[Sample, ...]:
    """The lines of `samples.jsonl`, as many as the manifest says.

    Raises:
        BundleFormatError: fewer or more lines, or one that is not a valid sample; the text says which.
    """
    samples = []
    if not data.endswith(b"\n"):
        raise BundleFormatError("the last line is not complete", where=where, cure=CURE)
    lines = data.count(b"\n")
    if lines != count:
        raise BundleFormatError(f"{lines} samples; the manifest says {count}", where=where, cure=CURE)
    for number, line in enumerate(data[:-1].split(b"\n"), start=1):
        place = f"{where}:{number}"
        parse_json(line, where=place)  # refuses duplicate keys and NaN, which pydantic lets pass
        try:
            sample = Sample.model_validate_json(line, strict=True)
        except ValidationError as problem:
            raise BundleFormatError(in_words(problem), where=place, cure=CURE) from problem
        if min(sample.call, sample.row, sample.tokens, sample.generated_from or 0) < 0:
            raise BundleFormatError("a negative number", where=place, cure=CURE)
        samples.append(sample)
    return tuple(samples)


def in_words(problem: ValidationError) -> str:
    """The first few faults of a document, each with its field."""
    faults = problem.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{'.'.join(str(part) for part in fault['loc']) or 'document'}: {fault['msg']}" for fault in faults[:4]]
    more = "" if len(faults) <= len(lines) else f" (and {len(faults) - len(lines)} more)"
    return "; ".join(lines) + more


def looks(name: str) -> str:
    """Equal for names that look the same: composed characters, and without the invisible ones (Unicode's Cf)."""
    if name.isascii():
        return name
    return "".join(c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c) != "Cf")


def parse_site_name(name: str) -> tuple[SiteKind, int | None]:
    """Kind and layer that a canonical site name stands for; anything else is a module path."""
    if name in _WHOLE_SITES:
        return _WHOLE_SITES[name], None
    match = _LAYER_SITE.fullmatch(name)
    if match is None:
        return "module", None
    kinds: dict[str, SiteKind] = {"attn": "attn", "mlp": "mlp", "resid": "resid", "head": "head", "neuron": "neuron"}
    return kinds[match[2].rstrip("0123456789")], int(match[1])


def _check_version(value: dict[str, Any], where: str) -> None:
    version = value.get("format_version", FORMAT_VERSION)  # a missing one is a missing field, refused below
    if version != FORMAT_VERSION:
        raise BundleVersionError(
            f"format_version {version!r:.40} is not read by this release, which reads {FORMAT_VERSION}",
            where=where,
            cure="Use the release of Model Forensics that wrote it, or a later one",
        )
    for field, known in (("codec", CODECS), ("encryption", get_args(Encryption))):
        if value.get(field, "none") not in known:
            raise BundleVersionError(
                f"{field} {value[field]!r:.40} is not read by this release",
                where=where,
                cure="Use a later release of Model Forensics, or write the bundle without it",
            )


def _check_file_names(files: dict[str, Any], where: str) -> None:
    for name in files:
        if name in ALWAYS or name == OFFSETS or SHARD.fullmatch(name):
            continue
        if name.startswith(("/", "\\")) or ".." in name or "\0" in name:
            raise UnsafeFileError(
                f"the file name {name!r} leaves the bundle", where=where, cure="Do not trust this bundle"
            )
        raise BundleFormatError(f"the file name {name!r} has no place in a bundle", where=where, cure=CURE)


def _check_consistency(manifest: Manifest, where: str) -> None:
    def refuse(what: str) -> BundleFormatError:
        return BundleFormatError(what, where=where, cure=CURE)

    if manifest.kind == "benign" and manifest.failure is not None:
        raise refuse("a benign bundle must not have a failure")
    offsets = manifest.token_offsets
    if len(offsets) != manifest.samples + 1:
        raise refuse(f"token_offsets has {len(offsets)} numbers for {manifest.samples} samples; it needs one more")
    if offsets[0] != 0 or any(later < earlier for earlier, later in pairwise(offsets)):
        raise refuse("token_offsets must begin with 0 and never decrease")
    if manifest.calls > manifest.samples:
        raise refuse(f"{manifest.calls:,} calls for {manifest.samples:,} samples; each call has one at least")
    missing = [name for name in ALWAYS if name not in manifest.files]
    if missing:
        raise refuse(f"files does not list {', '.join(missing)}")
    names = set()
    for site in manifest.sites:
        name = looks(site.name)
        if name in names:
            raise refuse(f"the site {site.name!r} is listed twice (names that look the same count as the same)")
        names.add(name)
        if not SHARD.fullmatch(site.file) or site.file not in manifest.files:
            raise refuse(f"site {site.name!r} is in {site.file!r}, which is no activation file of this bundle")
        if (site.layout == "sparse") != (site.entries is not None):
            raise refuse(f"site {site.name!r}: entries belongs to sparse sites, and they need it")
