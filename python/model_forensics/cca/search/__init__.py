"""Searching for the smallest sets of interventions; it knows no model, and claims only what it ran."""

from __future__ import annotations

from model_forensics.cca.search.plan import Search
from model_forensics.cca.search.problem import Found, Hit, Ledger, Problem, Settings

__all__ = ["Found", "Hit", "Ledger", "Problem", "Search", "Settings"]
