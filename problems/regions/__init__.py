"""Input regions: boxes, norm balls, norm balls cut by a box, and polytopes."""

from problems.regions.ball import Ball
from problems.regions.base import Cone, Lift, Recession, Region
from problems.regions.box import Box
from problems.regions.polytope import Polytope

__all__ = ["Ball", "Box", "Cone", "Lift", "Polytope", "Recession", "Region"]
