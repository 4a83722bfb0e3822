"""Can this folder run here: read without torch."""
