"""Kernels for the GPU in CUDA C, one family a file, known to :mod:`tinyconv.engines` alone."""
