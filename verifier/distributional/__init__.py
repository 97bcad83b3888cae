"""Distributional robustness: worst cases over Wasserstein balls around the data."""
