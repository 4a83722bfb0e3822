"""Measurements behind the claims: each beside what it is compared with."""
