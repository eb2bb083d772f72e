"""GPU kernels in Triton, one operation a file; installed as `model_forensics.kernels`. Only `ops` imports them.

They are compiled at their first launch. With TRITON_INTERPRET=1 in the environment before the import they run in
Triton's interpreter, on data in host memory: that is how they are tested without a GPU.
"""
