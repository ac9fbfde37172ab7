"""MONAI dictionary transforms, each with its inverse.

The order in use: LoadScand, MONAI's Orientationd("RAS"), PlanScand, MatchScand, CorrectBiasd, ResampleInPlaned,
NormalizePercentilesd, BackProjectd, PadToNetworkd.
"""

from bida.physics.simulate import simulate_slices
from bida.transforms.backproject import BackProjectd
from bida.transforms.bias import CorrectBiasd
from bida.transforms.inplane import ResampleInPlaned
from bida.transforms.intensity import NormalizePercentilesd
from bida.transforms.like import OrientLiked
from bida.transforms.load import LoadScand
from bida.transforms.match import MatchScand
from bida.transforms.pad import PadToNetworkd
from bida.transforms.plan import PlanScand
from bida.transforms.save import SaveVolumed
from bida.transforms.simulate import SimulateSlicesd

__all__ = [
    "BackProjectd",
    "CorrectBiasd",
    "LoadScand",
    "MatchScand",
    "NormalizePercentilesd",
    "OrientLiked",
    "PadToNetworkd",
    "PlanScand",
    "ResampleInPlaned",
    "SaveVolumed",
    "SimulateSlicesd",
    "simulate_slices",
]
