"""The arithmetic coder's kernels, on torch tensors in GPU memory; functions and arguments as in the public module.

The data and the stream stay on the device. The host gets the stream's header, the size of the result and whether the
stream is sound, for which it waits. Encoding takes scratch memory of some 2 bytes (static) or 3 (adaptive) for each
byte of data, and for values one more; decoding values takes one. The conditional model is not here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from model_forensics import _core_cuda
from model_forensics.errors import UsageError
from model_forensics.ops import _arithmetic, _check, _device
from model_forensics.ops._numpy.arithmetic import crc32c
from model_forensics.ops._stream import BrokenStream, frame

_ELEMENTS_OF: Final = {
    torch.uint8: _arithmetic.ELEMENTS,
    torch.float32: ("float32", "bytes"),
    torch.float16: ("float16", "bytes"),
    torch.bfloat16: ("bfloat16", "bytes"),
}
_NOT_ON_GPU: Final = 10
_CHECKSUM: Final = 11
# The kernels' numbers (csrc/cuda/arithmetic.hpp), with the words of the other backends.
_FAILURES: Final = {
    1: "it ends early",
    2: "bytes follow its end",
    3: "a section ends early",
    4: "a section is of an unknown kind",
    5: "a section holds a number that is too large",
    6: "a symbol has no frequency",
    7: "frequencies do not add up",
    8: "too many lanes",
    9: "a chunk has another size than its sections",
    _CHECKSUM: "the decoded bytes differ from their checksum",
}


def arithmetic_encode(data: torch.Tensor, *, model: Any = "static", dtype: Any = None) -> torch.Tensor:
    op = "arithmetic_encode"
    element = _element(op, data, dtype)
    if _check.choice(op, "model", model, _arithmetic.MODELS) == "conditional":
        raise UsageError(
            "the conditional model is not made on a GPU",
            where=op,
            cure="Pass model='static' or 'adaptive'; or tensor.view(torch.uint8).cpu().numpy() and its dtype",
        )
    content = data.detach().contiguous().reshape(-1).view(torch.uint8)
    header = frame.Header(_arithmetic.ELEMENTS.index(element), content.numel(), frame.CHUNK)
    return _encode(content, header, _arithmetic.MODELS.index(model))


def arithmetic_decode(stream: torch.Tensor, *, limit: int | None = None) -> torch.Tensor:
    op = "arithmetic_decode"
    if not isinstance(stream, torch.Tensor) or stream.dtype != torch.uint8:
        found = stream.dtype if isinstance(stream, torch.Tensor) else type(stream).__name__
        raise UsageError(f"stream is {found}", where=op, cure="Pass a CUDA tensor of uint8")
    most = _arithmetic.read_limit(op, limit)
    try:
        return _decode(op, stream.detach().contiguous().reshape(-1), most)
    except BrokenStream as error:
        raise _arithmetic.broken(op, error) from error


def _element(op: str, data: Any, dtype: Any) -> str:
    if not isinstance(data, torch.Tensor):
        raise UsageError(f"data is a {type(data).__name__}, not a torch tensor", where=op, cure="Pass a CUDA tensor")
    accepted = _ELEMENTS_OF.get(data.dtype)
    if accepted is None:
        raise UsageError(
            f"data is {data.dtype}",
            where=op,
            cure="Pass uint8, float32, float16 or bfloat16; data.view(torch.uint8) for others",
        )
    return accepted[0] if dtype is None else _check.choice(op, "dtype", dtype, accepted)


def _encode(content: torch.Tensor, header: frame.Header, model: int) -> torch.Tensor:
    """The stream of uint8 [n]; `header.chunk` is a multiple of the element's width."""
    width = frame.WIDTHS[header.element]
    cut = _core_cuda.Frame(size=header.size, chunk=header.chunk, width=width)
    new = _Tensors(content.device)
    with _device.guard(content.device):
        queue = _device.stream(content)
        counts = new.zeros(cut.sections, 256)
        planes = new.empty(header.size, torch.uint8) if width > 1 else content
        _core_cuda.split_planes(content.data_ptr(), cut, planes.data_ptr(), counts.data_ptr(), queue)
        parts = {
            "sections": new.empty(cut.sections * 4),
            "slices": new.empty(cut.sections * 256),
            "words": new.empty(cut.sections * cut.section_words(model), torch.int16),
            "lane_words": new.empty(cut.sections * _core_cuda.LANES),
            "sizes": new.empty(cut.sections, torch.int64),
        }
        coded = _core_cuda.Coded(model=model, **{name: part.data_ptr() for name, part in parts.items()})
        _core_cuda.encode_sections(planes.data_ptr(), counts.data_ptr(), cut, coded, queue)
        checksums = new.zeros(cut.chunks)
        _core_cuda.chunk_checksums(content.data_ptr(), cut, checksums.data_ptr(), queue)
        rest = header.size % width
        chunk_starts, section_starts = _places(parts["sizes"].view(cut.chunks, width), rest)
        stream = new.empty(int(chunk_starts[-1]), torch.uint8)
        written = np.frombuffer(frame.write_header(crc32c, header, model), np.uint8)
        stream[: frame.HEADER_SIZE] = _device.to_device(written, content.device)
        _core_cuda.write_sections(
            planes.data_ptr(),
            checksums.data_ptr(),
            cut,
            coded,
            chunk_starts.data_ptr(),
            section_starts.data_ptr(),
            stream.data_ptr(),
            queue,
        )
        stream[stream.numel() - rest :] = content[content.numel() - rest :]
    return stream


def _places(sizes: torch.Tensor, rest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where chunks (and the end) and sections begin, of the sizes of the sections, [chunks, width]."""
    stored = sizes.sum(1) + frame.CHUNK_HEADER.size
    stored[-1:] += rest
    chunk_starts = torch.cat([stored.new_tensor([frame.HEADER_SIZE]), stored]).cumsum(0)
    sections = chunk_starts[:-1, None] + frame.CHUNK_HEADER.size + sizes.cumsum(1) - sizes
    return chunk_starts, sections.contiguous()


def _decode(op: str, coded: torch.Tensor, most: int) -> torch.Tensor:
    header = frame.read_header(crc32c, coded[: frame.HEADER_SIZE].cpu().numpy())
    frame.check_room(coded.numel(), header)
    if header.repeats:
        raise _not_on_gpu(op)
    width = frame.WIDTHS[header.element]
    cut = _core_cuda.Frame(size=header.size, chunk=header.chunk, width=width)
    new = _Tensors(coded.device)
    given = (coded.data_ptr(), coded.numel(), cut)
    with _device.guard(coded.device):
        queue = _device.stream(coded)
        starts = new.empty(cut.chunks + 1, torch.int64)
        failures = new.zeros(cut.chunks + 1)  # the last one is the frame's
        _core_cuda.find_chunks(*given, starts.data_ptr(), failures[-1:].data_ptr(), queue)
        _raise_first(op, failures)
        _arithmetic.check_limit(op, header.size, most)
        data = new.empty(header.size, torch.uint8)
        planes = new.empty(header.size, torch.uint8) if width > 1 else data
        sections = new.empty(cut.sections, torch.int64)
        expected, checksums = new.zeros(cut.chunks), new.zeros(cut.chunks)
        found = (starts.data_ptr(), sections.data_ptr())
        _core_cuda.read_sections(*given, *found, expected.data_ptr(), failures.data_ptr(), data.data_ptr(), queue)
        _core_cuda.decode_sections(*given, *found, failures.data_ptr(), planes.data_ptr(), queue)
        if width > 1:
            _core_cuda.join_planes(planes.data_ptr(), cut, data.data_ptr(), queue)
        _core_cuda.chunk_checksums(data.data_ptr(), cut, checksums.data_ptr(), queue)
        differs = (expected != ~checksums) & (failures[:-1] == 0)
        failures[:-1] += differs * _CHECKSUM
        _raise_first(op, failures)
    return data


def _raise_first(op: str, failures: torch.Tensor) -> None:
    """For the first chunk with a failure, if there is one."""
    wrong = failures[failures != 0]
    if wrong.numel() == 0:
        return
    number = int(wrong[0])
    if number == _NOT_ON_GPU:
        raise _not_on_gpu(op)
    raise BrokenStream(_FAILURES[number])


def _not_on_gpu(op: str) -> UsageError:
    return UsageError(
        "the stream has conditional sections, which are not decoded on a GPU",
        where=op,
        cure="Copy the stream to host memory first: arithmetic_decode(stream.cpu().numpy())",
    )


class _Tensors:
    """New ones on a device, int32 unless told otherwise."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def empty(self, size: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.empty(size, dtype=dtype, device=self._device)

    def zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int32, device=self._device)
