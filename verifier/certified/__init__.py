"""Certified radii by the certificates of the literature, to be set beside the exact ones: interval bounds, CROWN, the triangle relaxation,
and Lipschitz margins. Each proves less than the exact search, and none proves anything else: same network, region and arithmetic."""

from verifier.certified.base import Certificate, Question
from verifier.certified.radii import METHODS, CertifiedRadii, certified_at, certified_radii, ready

__all__ = ["METHODS", "Certificate", "CertifiedRadii", "Question", "certified_at", "certified_radii", "ready"]
