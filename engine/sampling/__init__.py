"""What the devices, the memory and the disks do right now: figures for a screen, read in a thread of their own.

A screen uses `Sampler` (sampler.py), a command `sample_once` (reader.py); both give what figures.py holds.
"""
