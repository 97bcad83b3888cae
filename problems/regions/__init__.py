"""Input regions: boxes, norm balls, and norm balls cut by a box."""

from problems.regions.ball import Ball
from problems.regions.base import Cone, Lift, Region
from problems.regions.box import Box

__all__ = ["Ball", "Box", "Cone", "Lift", "Region"]
