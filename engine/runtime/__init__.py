"""The way of a job: who owns it, which device it may use, and the journal that remembers it."""
