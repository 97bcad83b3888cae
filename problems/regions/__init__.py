"""Input regions: boxes, norm balls, norm balls cut by a box, polytopes, and transport balls."""

from problems.regions.ball import Ball
from problems.regions.base import Cone, Lift, Recession, Region
from problems.regions.box import Box
from problems.regions.metric import MetricBall, Moves
from problems.regions.polytope import Polytope
from problems.regions.transport import TransportBall

__all__ = ["Ball", "Box", "Cone", "Lift", "MetricBall", "Moves", "Polytope", "Recession", "Region", "TransportBall"]
