"""The backend of float32 on the CPU: memory, steps and programs over the compiled kernels."""
