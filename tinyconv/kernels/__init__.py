"""Fast twins of the operations, known to :mod:`tinyconv.engines` alone."""
