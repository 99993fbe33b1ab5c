"""One training story a file: ``run(config, tables, writer)``."""
