"""The log file that several processes write to at once."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from concurrent_log_handler import ConcurrentRotatingFileHandler


class LogFile(ConcurrentRotatingFileHandler):
    """Every line is written, and every rotation done, under the lock of a file beside it (`.__NAME.lock`)."""

    def __init__(self, file: Path, max_bytes: int, keep: int) -> None:
        super().__init__(str(file), maxBytes=max_bytes, backupCount=keep, encoding="utf-8")
        self._told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that the log cannot be written (a full disk); the work goes on."""
        self._tell()

    def close(self) -> None:
        """What is still to be written may not be possible either; the work is done by then."""
        try:
            super().close()
        except OSError:
            self._tell()

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            print(f"warning: {self.baseFilename}: log lines are lost: {sys.exc_info()[1]}", file=sys.stderr)
