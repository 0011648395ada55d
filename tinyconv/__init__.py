"""tinyconv: convolutional networks in plain NumPy and CuPy, every backward pass written out."""
