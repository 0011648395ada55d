"""The plan: the layers of a network as fused, buffer-bound steps for one batch size."""
