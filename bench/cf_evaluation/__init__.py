"""The parts of `python -m bench cf_quality`: one module an experiment, results as plain JSON values."""
