"""Reading and replacing values at sites.

Hooks live in context managers and are always removed, also when the model raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from model_forensics.errors import InterventionError, UnknownSite
from model_forensics.models.families import submodule
from model_forensics.models.sites import Tap
from model_forensics.models.values import input_tensor, output_tensor, with_input_tensor, with_output_tensor

OnValue = Callable[[Tap, Tensor], None]
Edit = Callable[[Tensor], Tensor]
_Place = tuple[str, Literal["input", "output"]]


@contextmanager
def read(module: nn.Module, taps: Sequence[Tap], on_value: OnValue) -> Iterator[None]:
    """Calls `on_value(tap, value)` whenever a site is computed while the context is open.

    The value is the model's live tensor (a view for heads and neurons), [batch, tokens, features] as a rule: copy
    what is kept, because later operations may change it in place. A module that runs several times in one forward
    calls once for each. Opened inside `edit`, it sees edited values.

    Raises:
        UnknownSite: the module has no such submodule.
        ModelError: while running: a site's module returns no tensor.
    """
    handles: list[RemovableHandle] = []
    try:
        for (path, side), group in _by_place(taps).items():
            handles.append(_read_place(_find(module, path, group[0].name), path, side, group, on_value))
        yield
    finally:
        _remove(handles)


@contextmanager
def edit(module: nn.Module, edits: Mapping[Tap, Edit]) -> Iterator[None]:
    """Replaces the values of sites while the context is open.

    An edit gets its site's slice and returns what takes its place: same shape, same device; another floating-point
    dtype is cast to the site's. Several edits of one tensor (heads of a layer) all apply, in the given order. Nothing
    is changed in
    place: the model goes on with a new tensor, and gradients pass. A module that runs several times in one forward is
        edited
    each time.

    Raises:
        UnknownSite: the module has no such submodule.
        InterventionError: an edit returns another shape, device or kind; on leaving: the model ran without computing
            the site.
    """
    handles: list[RemovableHandle] = []
    ran: list[None] = []
    computed: set[_Place] = set()
    places = _by_place(list(edits))
    try:
        handles.append(module.register_forward_pre_hook(lambda _module, _inputs: ran.append(None)))
        for (path, side), group in places.items():
            target = _find(module, path, group[0].name)
            chosen = [(tap, edits[tap]) for tap in group]
            handles.append(_edit_place(target, path, side, chosen, computed))
        yield
    finally:
        _remove(handles)
    for place, group in places.items():
        if ran and place not in computed:
            raise InterventionError(
                "the model ran without computing this site, so the edit did nothing",
                where=group[0].name,
                cure="Name a site that the model's forward passes through",
            )


Write = Callable[[Tensor], None]


@contextmanager
def write(module: nn.Module, writes: Mapping[tuple[str, Literal["input", "output"]], Write]) -> Iterator[None]:
    """Lets functions change, in place, the tensors that enter or leave modules: no copy, and so no gradients.

    Args:
        writes: by module path and side; each gets the module's main tensor and changes it.

    Raises:
        UnknownSite: the module has no such submodule.
    """
    handles: list[RemovableHandle] = []
    try:
        for (path, side), function in writes.items():
            target = _find(module, path, path)
            if side == "input":

                def on_input(
                    _module: nn.Module,
                    positional: tuple[Any, ...],
                    named: dict[str, Any],
                    function: Write = function,
                    path: str = path,
                ) -> None:
                    function(input_tensor(positional, named, path))

                handles.append(target.register_forward_pre_hook(on_input, with_kwargs=True))
            else:

                def on_output(
                    _module: nn.Module,
                    _inputs: tuple[Any, ...],
                    output: Any,
                    function: Write = function,
                    path: str = path,
                ) -> None:
                    function(output_tensor(output, path))

                handles.append(target.register_forward_hook(on_output))
        yield
    finally:
        _remove(handles)


def _read_place(target: nn.Module, path: str, side: str, group: Sequence[Tap], on_value: OnValue) -> RemovableHandle:
    if side == "input":

        def on_input(_module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            value = input_tensor(positional, named, path)
            for tap in group:
                on_value(tap, _slice(value, tap))

        return target.register_forward_pre_hook(on_input, with_kwargs=True)

    def on_output(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        value = output_tensor(output, path)
        for tap in group:
            on_value(tap, _slice(value, tap))

    return target.register_forward_hook(on_output)


def _edit_place(
    target: nn.Module, path: str, side: str, group: Sequence[tuple[Tap, Edit]], computed: set[_Place]
) -> RemovableHandle:
    if side == "input":

        def on_input(
            _module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            computed.add((path, "input"))
            value = _apply(input_tensor(positional, named, path), group)
            return with_input_tensor(positional, named, value)

        return target.register_forward_pre_hook(on_input, with_kwargs=True)

    def on_output(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        computed.add((path, "output"))
        return with_output_tensor(output, _apply(output_tensor(output, path), group))

    return target.register_forward_hook(on_output)


def _apply(value: Tensor, group: Sequence[tuple[Tap, Edit]]) -> Tensor:
    for tap, function in group:
        if tap.start is None:
            value = _checked(tap, value, function(value))
    parts = [(tap.start, tap, function) for tap, function in group if tap.start is not None]
    parts.sort(key=lambda part: part[0])
    if not parts:
        return value
    # Joining pieces instead of writing into a copy keeps what the edits saw intact, which their gradients need
    pieces, done = [], 0
    for start, tap, function in parts:
        if start < done:
            raise InterventionError("two edits overlap", where=tap.name, cure="Edit each part of a tensor once")
        current = _slice(value, tap)
        pieces += [value[..., done:start], _checked(tap, current, function(current))]
        done = start + current.shape[-1]
    return torch.cat([*pieces, value[..., done:]], dim=-1)


def _checked(tap: Tap, current: Tensor, replacement: object) -> Tensor:
    if not isinstance(replacement, Tensor):
        raise InterventionError(
            f"the edit returned {type(replacement).__name__}", where=tap.name, cure="Return a tensor"
        )
    if replacement.shape != current.shape:
        raise InterventionError(
            f"the edit returned shape {list(replacement.shape)} for a value of shape {list(current.shape)}",
            where=tap.name,
            cure="Return the shape that was given; positions of another input cannot be patched one to one",
        )
    if replacement.device != current.device:
        raise InterventionError(
            f"the edit returned a tensor on {replacement.device}, the model computes on {current.device}",
            where=tap.name,
            cure="Move donor activations to the model's device first",
        )
    if replacement.is_floating_point() != current.is_floating_point():
        raise InterventionError(
            f"the edit returned {replacement.dtype} for {current.dtype}", where=tap.name, cure="Return floating point"
        )
    return replacement.to(current.dtype)


def _slice(value: Tensor, tap: Tap) -> Tensor:
    return value if tap.start is None else value[..., tap.start : tap.stop]


def _by_place(taps: Sequence[Tap]) -> dict[_Place, list[Tap]]:
    places: dict[_Place, list[Tap]] = {}
    for tap in taps:
        places.setdefault((tap.module, tap.side), []).append(tap)
    return places


def _find(module: nn.Module, path: str, name: str) -> nn.Module:
    found = submodule(module, path)
    if found is None:
        raise UnknownSite(
            f"the model has no module {path!r}", where=name, cure="Take the site from this model's own SiteMap"
        )
    return found


def _remove(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
