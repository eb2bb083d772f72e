"""Where an item is rewritten: a hidden directory below the root, of one process at a time; what a kill leaves there.

One item is rewritten at a time. `item` names it, `new` is its new form or, after the exchange, what it replaced, and
`aside` is what was moved away where the file system cannot exchange two names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from model_forensics.errors import StorageError
from model_forensics.files import atomic_write, lock_directory, storage_errors
from model_forensics.processes import uninterrupted

WORKPLACE: Final = ".rekey"


class Workplace:
    """Context manager; entering it repairs what a killed run left.

    Raises:
        StorageError: another run works below the root, it cannot be written to, or an item that a killed run was
            rewriting is gone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._place = root / WORKPLACE
        self.new = self._place / "new"
        self.aside = self._place / "aside"
        self._item = self._place / "item"

    def __enter__(self) -> Self:
        self._lock = lock_directory(self._place, "rekey")
        try:
            self._recover()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(OSError):  # not empty: what is there is kept for the next run
                self._place.rmdir()
        finally:
            os.close(self._lock)

    @contextmanager
    def rewriting(self, item: Path) -> Iterator[None]:
        """While it lasts, `item` is being rewritten; what is left in the workplace afterwards is removed."""
        try:
            atomic_write(self._item, os.fsencode(item.relative_to(self.root)))
            yield
        finally:
            with uninterrupted():
                if os.path.lexists(item):  # else what is in the workplace is the only copy
                    self._clear()

    def _recover(self) -> None:
        with storage_errors(self._place):
            if not self._item.exists():
                self._clear()  # killed before the item was named: nothing of an item is here
                return
            item = self.root / os.fsdecode(self._item.read_bytes())
            if not os.path.lexists(item) and os.path.lexists(self.aside):
                os.rename(self.aside, item)
            if not os.path.lexists(item):
                raise StorageError(
                    "what a killed run was rewriting is gone",
                    where=item,
                    cure=f"Move {self.new} back to it, or remove {self._place}, and run it again",
                )
            self._clear()

    def _clear(self) -> None:
        """The name goes last: as long as there is something to repair, it says of what."""
        with storage_errors(self._place):
            for place in (self.new, self.aside):
                if place.is_dir():
                    shutil.rmtree(place)
                else:
                    place.unlink(missing_ok=True)
            for left in self._place.glob(".*.tmp"):  # of writing the name
                left.unlink()
            self._item.unlink(missing_ok=True)
