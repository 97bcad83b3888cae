"""The sections of the page, one file per part of the audit. Each function takes an Audit and returns HTML."""
