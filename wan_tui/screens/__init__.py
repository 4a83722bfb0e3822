"""The six places, and the screens that stand before them for a moment."""
