"""Manners of a program that takes the whole screen: how it comes, how it goes, and what it leaves behind."""
