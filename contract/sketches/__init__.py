"""Mergeable sketches in one canonical stored form each: bytes or integers in, arrays out, nothing else."""
