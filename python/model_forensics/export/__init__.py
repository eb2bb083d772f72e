"""A proven fix set for use elsewhere: as a small hook in one Python file, or as edited weights. Needs torch.

Whatever is written was run first, loaded anew from what is written, and gave the outputs that the fix set gives.
"""

from __future__ import annotations

from model_forensics.export.hook import check_hook_target, write_hook
from model_forensics.export.weights import check_weights_target, write_weights

__all__ = ["check_hook_target", "check_weights_target", "write_hook", "write_weights"]
