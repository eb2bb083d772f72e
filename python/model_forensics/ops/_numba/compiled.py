"""numba's compiler, typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compiled at the first call, without the GIL; a division by zero gives what IEEE 754 says, and no check."""
    return cast("_Function", numba.njit(nogil=True, error_model="numpy")(function))
