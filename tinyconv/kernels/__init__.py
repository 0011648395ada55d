"""Fast twins of the operations, known to :mod:`tinyconv.engine` alone."""
