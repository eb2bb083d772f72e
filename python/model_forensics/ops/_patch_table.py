"""The form in which every backend of `patch_rows` gets the edits: one int64 table, a list of indices, flat values.

One line of the table an edit. A selection is `FIRST … FIRST + COUNT` where its `INDEX` is -1, else the `COUNT` entries
of the list of indices from `INDEX` on. Values are words of the hidden states' size: the one of selected token t and
selected feature f is at `VALUE + t · VALUE_STRIDE + f`; a stride of 0 repeats one line of values for every token, and a
`VALUE` of -1 means zero.
"""

from __future__ import annotations

from typing import Final

ROW: Final = 0
TOKEN_FIRST: Final = 1
TOKEN_COUNT: Final = 2
TOKEN_INDEX: Final = 3
FEATURE_FIRST: Final = 4
FEATURE_COUNT: Final = 5
FEATURE_INDEX: Final = 6
VALUE: Final = 7
VALUE_STRIDE: Final = 8
COLUMNS: Final = 9

ALIGNMENT: Final = 8
"""Words to which the values of each source array are aligned, so that GPU loads of 16 bytes can be."""
