"""Finding the tensor in what a module takes and returns, and putting another in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from model_forensics.errors import ModelError


def output_tensor(output: Any, where: str) -> Tensor:
    """The main tensor of a module's output.

    A tensor is itself; of a tuple or list the first element; of a mapping (also transformers' model outputs) `logits`,
    or without it the first tensor that is no scalar.

    Raises:
        ModelError: there is no such tensor.
    """
    key = _key(output)
    value = output if key is None else output[key]
    if isinstance(value, Tensor) and value.ndim > 0:
        return value
    raise ModelError(
        f"the output ({_describe(output)}) holds no tensor to read",
        where=where or "the model's output",
        cure="Return a tensor, a tuple that starts with one, or a mapping with `logits`; do not pass labels",
    )


def with_output_tensor(output: Any, value: Tensor) -> Any:
    """`output` with its main tensor replaced; everything else is kept, `output` itself is not changed."""
    key = _key(output)
    if key is None:
        return value
    if isinstance(output, Mapping):
        items = {**output, key: value}
        return items if type(output) is dict else type(output)(**items)
    if hasattr(output, "_replace"):  # a named tuple
        return output._replace(**{output._fields[0]: value})
    return type(output)((value, *output[1:]))


def input_tensor(positional: tuple[Any, ...], named: Mapping[str, Any], where: str) -> Tensor:
    """The first tensor that a module is called with, positional arguments first.

    Raises:
        ModelError: it is called without one.
    """
    for value in (*positional, *named.values()):
        if isinstance(value, Tensor):
            return value
    raise ModelError("the module is called without a tensor", where=where, cure="Name another site")


def with_input_tensor(
    positional: tuple[Any, ...], named: Mapping[str, Any], value: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with its first tensor replaced."""
    for number, given in enumerate(positional):
        if isinstance(given, Tensor):
            return (*positional[:number], value, *positional[number + 1 :]), dict(named)
    first = next(name for name, given in named.items() if isinstance(given, Tensor))
    return positional, {**named, first: value}


def _key(output: Any) -> Any:
    """Where in `output` the main tensor is; None when `output` is it, or holds none."""
    if isinstance(output, Mapping):
        if isinstance(output.get("logits"), Tensor):
            return "logits"
        return next((key for key, value in output.items() if isinstance(value, Tensor) and value.ndim > 0), None)
    if isinstance(output, tuple | list) and output:
        return 0
    return None


def _describe(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with {', '.join(map(str, output))}"
    return type(output).__name__
