"""The recorder: from a running model to a bundle on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model_forensics.bundle import BundleWriter, CallSample, Codec
from model_forensics.errors import ModelError, UsageError
from model_forensics.failure import Failure
from model_forensics.models import Model, Tap, rows
from model_forensics.models.values import output_tensor
from model_forensics.record.capture import ACTIVATION_DTYPES, Capture, as_array, capturing, check_complete
from model_forensics.record.generation import generate
from model_forensics.types import BundleKind, ModelReference, SiteInfo

Answers = Sequence[int | Sequence[int] | None]
Input = Tensor | npt.NDArray[Any]


class Recorder:
    """Records what a model computes on given inputs.

    Args:
        model: a module, or a `Model` (whose source and tokenizer then go into the bundle). A module in training mode is
            switched to evaluation for each call and back again: dropout could not be replayed.
        sites: `blocks`, `components`, `heads`, `all`, or a list of names and patterns (see `SiteMap.select`). Sites
            that are named without wildcards must be computed by every call; the others are recorded where they are.
        codec: how the bundles store tensors: "none", or "arithmetic" for compressed ones, without loss.

    Raises:
        UnknownSite: the model has no such site.
    """

    def __init__(
        self, model: nn.Module | Model, sites: str | Sequence[str] = "blocks", *, codec: Codec = "none"
    ) -> None:
        self._model = model if isinstance(model, Model) else Model(model)
        self._model.forget_digests()
        self._codec: Codec = codec
        self.taps = self._model.sites.select(sites)
        self._required = self._required_names(sites)

    @contextmanager
    def incident(
        self,
        path: str | Path,
        *,
        failure: Failure,
        bundle_id: str | None = None,
        created_at: datetime | None = None,
        overwrite: bool = False,
    ) -> Iterator[Recording]:
        """Records an incident: `with recorder.incident(path, failure=...) as inc: inc.run(...)`.

        The bundle appears when the block ends without an exception; otherwise nothing is written.

        Raises:
            UsageError: the path exists (without `overwrite`), or nothing was recorded.
            StorageError: writing failed.
        """
        with self._open(
            path, "incident", failure, {"bundle_id": bundle_id, "created_at": created_at, "overwrite": overwrite}
        ) as recording:
            yield recording

    @contextmanager
    def benign(
        self,
        path: str | Path,
        *,
        position: int = -1,
        bundle_id: str | None = None,
        created_at: datetime | None = None,
        overwrite: bool = False,
    ) -> Iterator[Recording]:
        """Records benign runs, with the logits at `position` among a sample's own tokens; else like `incident`."""
        with self._open(
            path, "benign", None, {"bundle_id": bundle_id, "created_at": created_at, "overwrite": overwrite}, position
        ) as recording:
            yield recording

    @contextmanager
    def _open(
        self, path: str | Path, kind: BundleKind, failure: Failure | None, options: dict[str, Any], position: int = -1
    ) -> Iterator[Recording]:
        reference = _findable(self._model.reference)
        with BundleWriter(path, kind=kind, failure=failure, model=reference, codec=self._codec, **options) as writer:
            position = position if failure is None else failure.position
            yield Recording(self._model, self.taps, self._required, writer, position)

    def _required_names(self, sites: str | Sequence[str]) -> frozenset[str]:
        if self._model.sites.family != "module" and isinstance(sites, str):
            return frozenset(tap.name for tap in self.taps)
        names = [sites] if isinstance(sites, str) else sites
        return frozenset(tap.name for tap in self.taps if tap.name in names)


class Recording:
    """An open recording. Made by `Recorder.incident` and `Recorder.benign`."""

    def __init__(
        self, model: Model, taps: Sequence[Tap], required: frozenset[str], writer: BundleWriter, position: int
    ) -> None:
        self._model = model
        self._taps = taps
        self._required = required
        self._writer = writer
        self._position = position
        self._declared: dict[str, SiteInfo] = {}

    def run(
        self,
        *,
        texts: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        right: Answers | None = None,
        wrong: Answers | None = None,
        **inputs: Input,
    ) -> Any:
        """Runs the model on one batch and records it.

        Args:
            texts, groups: per sample, what it says and which prompt or conversation it belongs to.
            right, wrong: per sample, its own answers (one id, several, or None for the failure's).
            inputs: the model's keyword inputs, [batch, …] each. Padding, left or right, is what `attention_mask` says.

        Returns:
            What the model returned, without gradients.

        Raises:
            UsageError: inputs that are no batch of one size; lists of another length.
            ModelError: a site is not computed, or has no floating-point batch as its value.
            OutputError: the output cannot be scored at the failure's position, or is not finite and the failure is not
                `nonfinite`.
        """
        tensors = _tensors(inputs, self._model.device)
        batch = _batch_size(tensors)
        described = _described(batch, texts, groups, right, wrong)
        mask = rows.real_token_mask(tensors)
        on_cpu = None if mask is None else mask.cpu()
        module = self._model.module
        # Without padding there is nothing to drop, but a token dimension all the same
        tokens_mask = on_cpu if on_cpu is not None else _full_mask(tensors)
        with _evaluation(module), torch.no_grad(), capturing(module, self._taps, tokens_mask, batch=batch) as finish:
            output = module(**tensors)
        capture = finish()
        check_complete(capture, self._taps, self._required)
        logits = rows.scored_logits(output_tensor(output, ""), mask, self._position).detach().cpu()
        self._add(tensors, capture, tokens_mask, logits, described, [None] * batch)
        return output

    def generate(
        self,
        *,
        max_new_tokens: int,
        eos_token_id: int | Sequence[int] | None = None,
        pad_token_id: int | None = None,
        num_beams: int = 1,
        do_sample: bool = False,
        texts: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        right: Answers | None = None,
        wrong: Answers | None = None,
        **inputs: Input,
    ) -> Tensor:
        """Lets the model continue the prompts greedily and records every step.

        A sample's rows are its prompt's tokens and the generated ones except the last, which the model never saw; rows
        that end early stop there. The bundle keeps the whole sequences as inputs, so that a replay runs them in one
        forward; it agrees with the recorded steps up to rounding, not bit for bit.

        Args:
            max_new_tokens: at most this many tokens are generated.
            eos_token_id, pad_token_id: default to the model's own.
            inputs: `input_ids` and, with prompts padded on the left, `attention_mask`.

        Returns:
            [batch, prompt + new] int64 on the CPU.

        Raises:
            UsageError: beams or sampling are asked for (they could not be replayed); other inputs; right padding.
            ModelError, OutputError: as `run`.
        """
        if num_beams != 1 or do_sample:
            raise UsageError(
                "only greedy generation is recorded: beams and sampling cannot be replayed",
                cure="Leave out num_beams and do_sample, or record the finished sequence with run()",
            )
        tensors = _tensors(inputs, self._model.device)
        batch = _batch_size(tensors)
        described = _described(batch, texts, groups, right, wrong)
        given = {"eos_token_id": eos_token_id, "pad_token_id": pad_token_id}
        options = {name: value for name, value in given.items() if value is not None}
        module = self._model.module
        with _evaluation(module), torch.no_grad():
            generated = generate(
                module,
                self._taps,
                self._required,
                tensors,
                position=self._position,
                max_new_tokens=max_new_tokens,
                options=options,
            )
        self._add(
            generated.inputs, generated.capture, generated.mask, generated.logits, described, generated.generated_from
        )
        return generated.sequences

    def _add(
        self,
        inputs: Mapping[str, Tensor],
        capture: Capture,
        mask: Tensor | None,
        logits: Tensor,
        described: Sequence[dict[str, Any]],
        generated_from: Sequence[int | None],
    ) -> None:
        if not logits.is_floating_point():
            raise ModelError(f"the model's output is {logits.dtype}, not logits", cure="Return logits, not answers")
        # float32 holds every float16 and bfloat16 exactly
        scored = logits if logits.dtype == torch.float64 else logits.float()
        samples = []
        for row, about in enumerate(described):
            activations = {
                tap.name: self._activation(tap, capture.sample_rows(tap, mask, row))
                for tap in self._taps
                if tap in capture
            }
            tokens = _most_rows(activations) if mask is None else int(mask[row].sum())
            outputs = {"logits": scored[row : row + 1].contiguous().numpy()}
            samples.append(
                CallSample(
                    activations=activations,
                    outputs=outputs,
                    tokens=tokens,
                    generated_from=generated_from[row],
                    **about,
                )
            )
        self._writer.add_call(inputs={name: _input_array(value) for name, value in inputs.items()}, samples=samples)

    def _activation(self, tap: Tap, values: Tensor) -> npt.NDArray[Any]:
        array, dtype = as_array(values)
        known = self._declared.get(tap.name)
        if known is None:
            info = SiteInfo(
                name=tap.name,
                module=tap.module,
                kind=tap.kind,
                layer=tap.layer,
                features=int(array.shape[1]),
                dtype=ACTIVATION_DTYPES[values.dtype],  # type: ignore[arg-type]  # the table holds just these names
            )
            self._declared[tap.name] = info
            self._writer.declare_site(info)
        elif (known.dtype, known.features) != (dtype, array.shape[1]):
            raise ModelError(
                f"the site was recorded with {known.features} features of {known.dtype},"
                f" and now has {array.shape[1]} of {dtype}",
                where=tap.name,
                cure="Record runs of another dtype (autocast) or size in a bundle of their own",
            )
        return array


def _findable(reference: ModelReference) -> ModelReference:
    """A bundle's relative sources start at the bundle, the operator's at the working directory: make these absolute."""
    if reference.source is None or not Path(reference.source).is_dir():
        return reference
    return reference.model_copy(update={"source": str(Path(reference.source).absolute())})


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every submodule's own mode restored after."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _tensors(inputs: Mapping[str, Input], device: torch.device) -> dict[str, Tensor]:
    tensors = {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            tensors[name] = torch.from_numpy(value).to(device)
        elif isinstance(value, Tensor):
            tensors[name] = value.detach().to(device)
        else:
            raise UsageError(
                f"inputs must be tensors or arrays, not {type(value).__name__}",
                where=name,
                cure="Pass a tensor; a setting that is none could not be replayed, so set it on the model",
            )
    return tensors


def _batch_size(inputs: Mapping[str, Tensor]) -> int:
    sizes = {name: value.shape[0] if value.ndim else 0 for name, value in inputs.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        found = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items()) or "none"
        raise UsageError(f"the inputs are no batch of one size ({found})", cure="Pass [batch, …] tensors")
    return next(iter(sizes.values()))


def _full_mask(inputs: Mapping[str, Tensor]) -> Tensor | None:
    """[batch, tokens] of true for token inputs without an attention mask; None for other inputs."""
    tokens = inputs.get("input_ids")
    if tokens is None or tokens.ndim != 2:
        return None
    return torch.ones(tokens.shape[0], tokens.shape[1], dtype=torch.bool)


def _described(
    batch: int,
    texts: Sequence[str] | None,
    groups: Sequence[str] | None,
    right: Answers | None,
    wrong: Answers | None,
) -> list[dict[str, Any]]:
    given: dict[str, Sequence[Any] | None] = {"text": texts, "group": groups, "right": right, "wrong": wrong}
    for name, values in given.items():
        if values is not None and (isinstance(values, str) or len(values) != batch):
            raise UsageError(
                f"there are {batch} samples in the batch and {len(values)} values for '{name}'",
                cure="Give a list with one entry for each sample",
            )
    columns = {name: [None] * batch if values is None else list(values) for name, values in given.items()}
    for name in ("right", "wrong"):
        columns[name] = [_answers(value) for value in columns[name]]
    return [{name: values[row] for name, values in columns.items()} for row in range(batch)]


def _answers(value: int | Sequence[int] | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    return (int(value),) if isinstance(value, int | np.integer) else tuple(int(answer) for answer in value)


def _most_rows(activations: Mapping[str, npt.NDArray[Any]]) -> int:
    """What counts as the tokens of a sample that has none (an image): the most rows that any site has."""
    return max((len(array) for array in activations.values()), default=0)


def _input_array(value: Tensor) -> npt.NDArray[Any]:
    """An input as NumPy holds it: bfloat16 widened to float32, exactly; `Model.forward` casts it back."""
    on_cpu = value.detach().cpu()
    array: npt.NDArray[Any] = (on_cpu.float() if on_cpu.dtype == torch.bfloat16 else on_cpu).contiguous().numpy()
    return array
