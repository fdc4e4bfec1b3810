"""The version of the package, kept apart so that builds can read it without importing torch."""

__version__ = "0.1.0"
