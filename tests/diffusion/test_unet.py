"""The parts of the U-Net against other implementations."""

import pytest
import torch
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding

from bida.diffusion.unet import timestep_embedding


@pytest.mark.parametrize("channels", [32, 128, 256])
def test_times_are_embedded_as_monai_does(channels: int) -> None:
    times = torch.arange(1000)
    assert torch.equal(timestep_embedding(times, channels), get_timestep_embedding(times, channels))
