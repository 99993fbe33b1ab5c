"""One file of values a strategy: ``STRATEGY = Strategy(...)``."""
