"""Helpers that the package shares: domains, labels, inputs, randomness, devices."""

__all__ = []
