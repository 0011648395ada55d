"""Plans for the GPU: memory, steps and a program over the kernels of ``kernels/gpu``."""
