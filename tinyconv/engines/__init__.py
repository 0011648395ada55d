"""What executes a network: the layers one by one, or a plan of fused steps over fixed buffers."""
