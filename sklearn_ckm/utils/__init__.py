"""Helpers for data of two domains: one array out of two, and back."""

from ._stack_domains import stack_domains, unstack_domains

__all__ = ["stack_domains", "unstack_domains"]
