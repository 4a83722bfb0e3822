"""Frames in, frames out: images and videos read, clips encoded and put under a name of their own."""
