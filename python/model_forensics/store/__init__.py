"""What is kept between runs: the cache, results ledger and audit log. Plain data in, plain data out; knows no stage."""

from __future__ import annotations

from model_forensics.store.audit import Action, AuditLog, Verified, audited, verify
from model_forensics.store.cache import Cache, cache_key
from model_forensics.store.ledger import LEDGER_FILE, Ledger, LedgerRow
from model_forensics.store.periods import parse_since
from model_forensics.store.statistics import Statistics

__all__ = [
    "LEDGER_FILE",
    "Action",
    "AuditLog",
    "Cache",
    "Ledger",
    "LedgerRow",
    "Statistics",
    "Verified",
    "audited",
    "cache_key",
    "parse_since",
    "verify",
]
