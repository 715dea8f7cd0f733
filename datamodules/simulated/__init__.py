"""Sequences made up from a seed."""
