"""The stream of the arithmetic coder in Python, shared by the backends that are not compiled ahead of time.

Frame, sections, tables and planes are here; how the symbols of a section become words, lane by lane, is the backend's
(`Coder`). The format is specified in docs/stream-format.md.
"""

from model_forensics.ops._stream.coder import Coder, LaneDecoder, LaneEncoder
from model_forensics.ops._stream.frame import decode, encode, size
from model_forensics.ops._stream.reader import BrokenStream

__all__ = ["BrokenStream", "Coder", "LaneDecoder", "LaneEncoder", "decode", "encode", "size"]
