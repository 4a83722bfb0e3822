"""The face: shows and asks, and knows no tensor."""

__version__ = "0.1.0"
