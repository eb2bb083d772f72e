from model_forensics import ops

threads = getattr(ops, "threads", lambda: 1)
set_threads = getattr(ops, "set_threads", lambda n: None)
instruction_set = getattr(ops, "instruction_set", lambda: "unknown")
