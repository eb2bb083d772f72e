"""Models: their sites, their identity, reading and replacing what they compute. Needs torch."""

from __future__ import annotations

from model_forensics.models import hooks, rows
from model_forensics.models.computation import computation
from model_forensics.models.digest import tokenizer_digest, weights_digest
from model_forensics.models.loading import load_model
from model_forensics.models.model import Model
from model_forensics.models.names import SiteName, parse_site_name
from model_forensics.models.sites import SiteMap, Tap

__all__ = [
    "Model",
    "SiteMap",
    "SiteName",
    "Tap",
    "computation",
    "hooks",
    "load_model",
    "parse_site_name",
    "rows",
    "tokenizer_digest",
    "weights_digest",
]
