"""The one place where an incident becomes done: first in the ledger, then for everybody to see.

Whatever else must learn of every result belongs between the two lines of `record`, and must bear to be told twice of
one: a kill right after the ledger's line is made good by `recover`, which publishes what the ledger calls done.
"""

from __future__ import annotations

from model_forensics.batch.ledger import Ledger
from model_forensics.batch.places import Places, staged_names
from model_forensics.types import IncidentFinding


def record(ledger: Ledger, places: Places, name: str, finding: IncidentFinding) -> None:
    """An incident's result is complete in the staging directory; of a benign recording there is none.

    What a worker that ended had staged of a bundle that was another one then is not published.
    """
    ledger.finish(name, finding)
    if finding.verdict is not None:
        places.publish(name)


def recover(ledger: Ledger, places: Places) -> None:
    """Before and after the work: results are there exactly of what the ledger calls done.

    What was staged and is done is published. Of what was running nothing stays, nor of an older result that a new
    analysis of a changed bundle was about to replace.
    """
    for run, staging in places.stagings():
        for name in staged_names(staging):
            if ledger.is_done(name, run):
                places.publish(name, staging)
    for name in ledger.running():
        places.withdraw(name)
    places.discard_unfinished()
