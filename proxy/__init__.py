"""A reverse proxy that gives any unmodified agent server the deferred-init life cycle."""

__version__ = "0.1.0"
