"""The published prior's network (35.7 million weights): two evaluations are timed, the rest is arithmetic."""

import torch
from torch import nn

from ue_audit.benches import timing
from ue_audit.benches.rows import Part, row
from ue_audit.benches.scene import Scene
from ue_audit.benches.timing import Contender
from ue_audit.config import load_preset, resolve
from ue_audit.diffusion.prior import Prior, PriorConfig
from ue_audit.diffusion.unet import UNet

TITLE = "The published network"
PRESET, TIMED, T = "ddpm-cifar", 2, 20
SET = 50_000  # images
CHAINS = {"80 evaluations": 80, "4 evaluations": 4}


def run(scene: Scene) -> Part:
    config, _ = resolve(PriorConfig, {"preset": load_preset("train-prior", PRESET)}, PRESET)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(scene.settings.seed)
        network = awake(UNet(config.network))
    prior = Prior(network, config, scene.cast.x.shape[-1]).to(scene.device)
    x = 2 * scene.cast.x_ue[: scene.amounts.evaluations].to(scene.device) - 1
    t = torch.full((len(x),), T, device=scene.device)

    def twice() -> None:
        for _ in range(TIMED):
            with torch.no_grad():
                prior.predict_noise(x, t)

    contender = Contender(twice, TIMED * len(x))
    [(what, found)] = timing.interleaved({PRESET: contender}, scene.amounts.repeats, scene.device).items()
    weights = sum(w.numel() for w in network.parameters())
    an_image = sorted(found.seconds)[len(found.seconds) // 2] / (TIMED * len(x))
    hours = {f"hours for {SET:,} images, {name}": SET * n * an_image / 3600 for name, n in CHAINS.items()}
    figures = {"weights (million)": weights / 1e6, **hours}
    note = f"Random weights, {TIMED} evaluations of {len(x)} images timed; hours are extrapolated, without the guide."
    return Part([row(f"{what}: evaluations of the network", found, figures=figures)], notes=[note])


def awake(network: UNet) -> UNet:
    """Layers that start at zero get weights, so that nothing is multiplied by zeros."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and not part.weight.any():
            nn.init.normal_(part.weight, std=0.02)
    return network
