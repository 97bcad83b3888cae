"""Audits: their parts (radii, part_*.py), the record of results, tables, plots, and one HTML file that opens offline.

`Audit` holds all that the page shows and goes to JSON and back without loss; what draws and writes computes nothing.
"""

from verifier.report.html import page, write
from verifier.report.record import Audit, AuditedSample, Certified, Curve, LossCurve, NormAudit, SampleRadius, TightShare

__all__ = ["Audit", "AuditedSample", "Certified", "Curve", "LossCurve", "NormAudit", "SampleRadius", "TightShare", "page", "write"]
