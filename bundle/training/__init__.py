"""Teaching a network: data sets, handlers, the skull stripper's heads, running a configuration.

Transforms, eval, diffusion and all below may be imported. Start reading at `dataset.py`.
"""
