"""What every class of the results document is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def printable(text: str) -> str:
    """As UTF-8 can hold it: names of files may be any bytes, and those that are no UTF-8 become backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


Printable = Annotated[str, AfterValidator(printable)]
"""A path, or a text that may hold one."""


class Frozen(BaseModel):
    """Base of every document class: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
