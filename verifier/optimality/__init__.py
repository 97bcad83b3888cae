"""Optimal adversarial risk: how badly any classifier whatever must do between two classes, by optimal transport between their samples."""
