"""Every error that Model Forensics raises on purpose.

Each says what went wrong, where (a file, a site, a key) and how to cure it. The hierarchy:

ModelForensicsError
├── UsageError                 contradictory or impossible arguments              exit code 2
├── BackendUnavailable         a backend asked for by name cannot serve           exit code 3
├── InputRefused               the input cannot be used                           exit code 3
│   ├── BundleError            a bundle is broken
│   │   ├── BundleFormatError      fields, offsets, shapes, counts
│   │   ├── BundleVersionError     a format version this release does not read
│   │   ├── BundleDigestError      stored bytes differ from the manifest
│   │   └── UnsafeFileError        links, pickles, paths that leave the bundle
│   ├── BaselineError          a baseline is empty, broken or of another model
│   ├── ModelError             a model cannot be loaded or run
│   │   ├── WeightsMismatch        weights differ from those recorded (--strict)
│   │   └── UnknownSite            the model or recording has no such site
│   ├── InterventionError      an intervention does not fit its site or donor
│   ├── OutputError            recorded or computed outputs cannot be judged
│   ├── ConfigError            the configuration is wrong
│   ├── ResultsError           a results file is broken
│   ├── CacheError             an entry of the cache is broken (a miss, never an exit)
│   ├── AuditError             the audit log was tampered with or is broken
│   ├── LedgerError            a ledger (of results, of a batch) is damaged or of something else
│   ├── EncryptionError        an encrypted file cannot be opened
│   │   ├── EncryptionKeyError     the key is missing, malformed or not the one that it was encrypted with
│   │   └── CiphertextError        it was altered, truncated or reordered
│   └── StreamError            a stream of the arithmetic coder is broken or too large
├── WorkerError                worker processes end, at their start or over a bundle    exit code 3
└── StorageError               writing failed (disk full, no permission)          exit code 3
"""

from __future__ import annotations

from pathlib import Path


class ModelForensicsError(Exception):
    """Base of all named errors.

    Args:
        what: what went wrong, a sentence without a full stop.
        where: file, site or key that it concerns.
        cure: what the reader can do about it, a sentence without a full stop.
    """

    exit_code = 5

    def __init__(self, what: str, *, where: str | Path | None = None, cure: str) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.cure = cure
        prefix = "" if self.where is None else f"{self.where}: "
        super().__init__(f"{prefix}{what}. {cure}.")

    def __reduce__(self) -> tuple[object, ...]:
        """For errors that cross from one process to another."""
        return _remade, (type(self), self.what, self.where, self.cure)


def _remade(kind: type[ModelForensicsError], what: str, where: str | None, cure: str) -> ModelForensicsError:
    return kind(what, where=where, cure=cure)


class UsageError(ModelForensicsError):
    exit_code = 2


class BackendUnavailable(ModelForensicsError):
    exit_code = 3


class InputRefused(ModelForensicsError):
    exit_code = 3


class BundleError(InputRefused):
    pass


class BundleFormatError(BundleError):
    pass


class BundleVersionError(BundleError):
    pass


class BundleDigestError(BundleError):
    pass


class UnsafeFileError(BundleError):
    pass


class BaselineError(InputRefused):
    pass


class ModelError(InputRefused):
    pass


class WeightsMismatch(ModelError):
    pass


class UnknownSite(ModelError):
    pass


class InterventionError(InputRefused):
    pass


class OutputError(InputRefused):
    pass


class ConfigError(InputRefused):
    pass


class ResultsError(InputRefused):
    pass


class CacheError(InputRefused):
    pass


class AuditError(InputRefused):
    pass


class LedgerError(InputRefused):
    pass


class EncryptionError(InputRefused):
    pass


class EncryptionKeyError(EncryptionError):
    pass


class CiphertextError(EncryptionError):
    pass


class StreamError(InputRefused):
    pass


class WorkerError(ModelForensicsError):
    exit_code = 3


class StorageError(ModelForensicsError):
    exit_code = 3
