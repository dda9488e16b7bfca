"""NORA: a pull-through cache and registry for container images."""

__version__ = "0.1.0"
