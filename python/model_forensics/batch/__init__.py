"""Many incidents: worker processes, a ledger that makes them resumable, a summary.

Knows neither pipeline nor models: what is done with one incident comes in as an `Analyst`.
"""

from __future__ import annotations

from model_forensics.batch.places import Places
from model_forensics.batch.run import Job, run_batch
from model_forensics.batch.sizing import has_gpu, model_bytes, suitable_workers
from model_forensics.batch.worker import Analyst, Task

__all__ = ["Analyst", "Job", "Places", "Task", "has_gpu", "model_bytes", "run_batch", "suitable_workers"]
