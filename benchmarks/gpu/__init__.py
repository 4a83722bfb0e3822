"""Proofs on a real GPU: what a run takes and how long, beside what was predicted. See `__main__`."""
