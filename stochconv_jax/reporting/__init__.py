"""Reads run folders and compares them in tables, figures and a page, for --mode=report. Imports no training code."""
