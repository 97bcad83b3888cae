"""Recession cones of activation cells, the tightness condition, slopes at infinity, and their audit over a network (THEORY section 3)."""
