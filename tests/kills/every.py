"""All scenarios."""

from __future__ import annotations

from tests.kills.batches import Batch
from tests.kills.bundles import (
    CodedRecord,
    Compress,
    CompressEncrypted,
    EncryptedRecord,
    NewRecord,
    Rekey,
    SaveBaseline,
)
from tests.kills.documents import Hook, LogFile, Migration, Results
from tests.kills.scenario import Scenario
from tests.kills.stores import FullCache, NewAuditLog, NewCache, NewLedger, OldAuditLog, OldLedger
from tests.kills.weights import Weights

SCENARIOS: tuple[type[Scenario], ...] = (
    NewRecord,
    CodedRecord,
    EncryptedRecord,
    Compress,
    CompressEncrypted,
    Batch,
    NewCache,
    FullCache,
    NewLedger,
    OldLedger,
    NewAuditLog,
    OldAuditLog,
    SaveBaseline,
    Rekey,
    Results,
    Hook,
    Weights,
    Migration,
    LogFile,
)
