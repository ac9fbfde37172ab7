"""The same for stacks of optical sections: masked slice diffusion, from a stack to an isotropic one, and comparisons.

Everything below may be imported; the MRI side and this one do not know each other. Start reading at `restore.py`.
"""
