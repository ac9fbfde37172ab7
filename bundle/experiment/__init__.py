"""The paper's comparison: methods and metrics over animals and factors, baselines, and the report.

The MRI side and everything below may be imported. Start reading at `run.py`, then `methods.py`.
"""
