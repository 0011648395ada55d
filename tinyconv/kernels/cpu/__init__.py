"""Kernels compiled by Numba: vectors in :mod:`simd`, then one file a family of operations."""
