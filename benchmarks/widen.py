"""Turn weights of a prior without a guide into a start for the training of a guided one, which predicts the same.

    python benchmarks/widen.py plain.pt start.pt
    bida train DATA --set initial_weights=start.pt

The stem gets weights of zero for the guide, and every class the embedding of its plane.
"""

from __future__ import annotations

import argparse

import torch

from bida.pipeline import released_prior
from bida.prior import CLASSES, PlanePrior
from bida.unet import SliceUNet
from bida.volume import PLANES
from bida.weights import load_weights, save_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plain", help="weights file of SliceUNet()")
    parser.add_argument("start", help="file to write")
    arguments = parser.parse_args()
    plain, guided = PlanePrior(SliceUNet()), released_prior()
    load_weights(plain, arguments.plain)
    state = plain.state_dict()
    stem, planes = "networks.shared.stem.weight", "networks.shared.plane.weight"
    state[stem] = torch.cat([state[stem], torch.zeros_like(state[stem])], dim=1)
    state[planes] = state[planes].repeat(CLASSES // len(PLANES), 1)
    guided.load_state_dict(state)
    save_weights(guided, arguments.start)


if __name__ == "__main__":
    main()
