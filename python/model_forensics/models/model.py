"""A model ready to be recorded, replayed and edited."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from model_forensics.models.digest import dtype_name, stored_tensors, tokenizer_digest, weights_digest
from model_forensics.models.placement import input_device
from model_forensics.models.sites import SiteMap
from model_forensics.models.values import output_tensor
from model_forensics.types import ModelReference


class Model:
    """A module with its sites and its identity.

    Attributes:
        module: the module. `wrap` and `load_model` switch it to evaluation mode; the constructor leaves it as it is.
        tokenizer: what came with it, or None.
        source: directory or hub id that it was loaded from, or None.
        factory: `pkg.module:function` that built it, or None.
        stock: whether a released library built it, and no code of the operator's or of the model's own.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        source: str | None = None,
        factory: str | None = None,
        tokenizer: object | None = None,
        stock: bool = False,
    ) -> None:
        self.module = module
        self.source = source
        self.factory = factory
        self.tokenizer = tokenizer
        self.stock = stock
        self._digested: tuple[tuple[object, ...], ModelReference] | None = None

    @staticmethod
    def wrap(module: nn.Module, *, source: str | None = None, tokenizer: object | None = None) -> Model:
        """A model around a module, which is switched to evaluation mode."""
        return Model(module.eval(), source=source, tokenizer=tokenizer)

    @cached_property
    def sites(self) -> SiteMap:
        return SiteMap(self.module)

    @property
    def device(self) -> torch.device:
        """Where its inputs go; see `placement.input_device`."""
        return input_device(self.module)

    @property
    def dtype(self) -> torch.dtype | None:
        """The floating-point dtype that most parameters have; None for a module without any."""
        counts = Counter[torch.dtype]()
        for parameter in self.module.parameters():
            if parameter.is_floating_point():
                counts[parameter.dtype] += parameter.numel()
        return counts.most_common(1)[0][0] if counts else None

    @property
    def reference(self) -> ModelReference:
        """What names this model in a bundle, with digests.

        The digests are kept until torch counts a change of a weight. It does not count changes made through `.data`:
        call `forget_digests` after these.
        """
        state = tuple(_identity(value) for _, value in stored_tensors(self.module))
        if self._digested is None or self._digested[0] != state:
            self._digested = (state, self._describe())
        return self._digested[1]

    def forget_digests(self) -> None:
        """Makes `reference` read the weights again."""
        self._digested = None

    @cached_property
    def takes_logits_to_keep(self) -> bool:
        """Whether the module can leave out the logits of all tokens but the last few."""
        return "logits_to_keep" in inspect.signature(self.module.forward).parameters

    @torch.no_grad()
    def forward(self, inputs: Mapping[str, Tensor], *, last: int | None = None) -> Tensor:
        """Runs the model: [batch, tokens, classes] or [batch, classes], on the model's device, without gradients.

        Inputs are moved to the device. Floating-point ones are cast to the dtype of the weights: bundles hold
        bfloat16 inputs widened to float32.

        Args:
            last: the logits of so many last tokens are enough; where the module cannot leave out the others, all come.

        Raises:
            ModelError: the model returns no tensor.
        """
        keep = {"logits_to_keep": last} if last is not None and self.takes_logits_to_keep else {}
        output = self.module(**{name: self._placed(value) for name, value in inputs.items()}, **keep)
        return output_tensor(output, "")

    def _placed(self, value: Tensor) -> Tensor:
        dtype = self.dtype if value.is_floating_point() else None
        return value.to(device=self.device, dtype=dtype)

    def _describe(self) -> ModelReference:
        digest, tensors = weights_digest(self.module)
        return ModelReference(
            source=self.source,
            architecture=type(self.module).__name__,
            family=self.sites.family,
            layers=self.sites.layers,
            width=self.sites.width,
            dtype=None if self.dtype is None else dtype_name(self.dtype),
            weights_digest=digest,
            tensor_digests=tensors,
            tokenizer_digest=tokenizer_digest(self.tokenizer),
        )


def _identity(value: Tensor) -> tuple[object, ...]:
    version = None if value.is_inference() else value._version
    return (value.device, value.data_ptr(), value.dtype, tuple(value.shape), version)
