"""GPU kernels in Triton, one operation a file; installed as `model_forensics.kernels`. None are written yet."""
