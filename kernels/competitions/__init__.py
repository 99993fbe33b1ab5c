"""One competition a file: ``COMPETITION`` and ``read_tables(folder)``."""
