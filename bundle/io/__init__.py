"""Files in and out: scans and their sidecars, BIDS folders, NIfTI, weights; nothing is ever left half written.

Errors and physics may be imported. Start reading at `scan.py`.
"""
