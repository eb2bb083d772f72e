"""`python -m model_forensics`: the commands, where the script `model-forensics` is not on the path."""

from __future__ import annotations

from model_forensics.cli.main import main

if __name__ == "__main__":  # workers of a batch import this module, too
    main(prog_name="python -m model_forensics")
