"""Reports of audits: the record of results, tables, plots, and one HTML file that opens offline.

The package draws and writes; it computes nothing. `Audit` holds all that the page shows and goes to JSON and back without loss.
"""

from verifier.report.html import page, write
from verifier.report.record import Audit, AuditedSample, Curve, NormAudit, SampleRadius

__all__ = ["Audit", "AuditedSample", "Curve", "NormAudit", "SampleRadius", "page", "write"]
