"""Exact radii in image-space Wasserstein distance: the configurations of the flow paper, and the ladder of radii they are found by."""
