import pytest
import torch

from ue_audit.diffusion.prior import Prior, PriorConfig
from ue_audit.diffusion.unet import Config as Network
from ue_audit.diffusion.unet import UNet


@pytest.fixture(scope="module")
def prior_file(request, tmp_path_factory):
    """A random network of a few thousand parameters, none of them zero, trained on nothing; of the module's `SIZE`."""
    torch.manual_seed(0)
    network = UNet(Network(channels=8, multipliers=(1, 2), attention=(), groups=4, dropout=0))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path_factory.mktemp("prior") / "tiny.ckpt"
    size = getattr(request.module, "SIZE", 8)
    path.write_bytes(Prior(network, PriorConfig(network=network.config, t_max=100), size=size).to_bytes())
    return path
