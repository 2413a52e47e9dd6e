"""Little Bell: a small, durable, honest email tracking server."""

__version__ = "0.1.0"
