"""From a thick-slice scan to an isotropic volume: settings, pipeline, inferer, self-check, adaptation, record, picture.

Everything below may be imported, microscopy and the experiment not. Start reading at `pipeline.py`.
"""
