"""Simulate sequences from a seed."""
