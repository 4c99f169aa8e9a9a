"""The networks of ddim and guided-diffusion in few lines, with the names and the order of work of their code."""

import math

import torch
from torch import nn
from torch.nn import functional as F


def fill(network, seed=0):
    """Random weights everywhere, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.data = 0.08 * torch.randn(weight.shape, generator=generator) + (weight.dim() == 1) * 0.5
    return network.eval().requires_grad_(False)


# -- ddim: attention q, k, v as 1x1 convolutions, one head; `up` is listed from fine to coarse --------------


class DdimBlock(nn.Module):
    def __init__(self, inputs, width, embedding):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, inputs, 1e-6), nn.GroupNorm(32, width, 1e-6)
        self.conv1, self.conv2 = nn.Conv2d(inputs, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.temb_proj = nn.Linear(embedding, width)
        if inputs != width:
            self.nin_shortcut = nn.Conv2d(inputs, width, 1)

    def forward(self, x, temb):
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class DdimAttention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, 1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) * q.shape[1] ** -0.5, 2)  # over the keys j
        return x + self.proj_out(torch.einsum("bcj,bij->bci", v, weights).reshape(x.shape))


class Ddim(nn.Module):
    def __init__(self, channels=32, multipliers=(1, 2, 2), blocks=2, attention=(1,), out=3):
        super().__init__()
        self.channels, embedding, levels = channels, 4 * channels, len(multipliers)
        self.temb = nn.Module()
        self.temb.dense = nn.ModuleList([nn.Linear(channels, embedding), nn.Linear(embedding, embedding)])
        self.conv_in = nn.Conv2d(3, channels, 3, 1, 1)
        widths = [channels * m for m in multipliers]
        self.down, self.up, skips, now = nn.ModuleList(), nn.ModuleList(), [channels], channels
        for level, width in enumerate(widths):
            part = nn.Module()
            part.block, part.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(blocks):
                part.block.append(DdimBlock(now, width, embedding))
                now = width
                skips.append(now)
                if level in attention:
                    part.attn.append(DdimAttention(now))
            if level < levels - 1:
                part.downsample = nn.Module()
                part.downsample.conv = nn.Conv2d(now, now, 3, 2, 0)
                skips.append(now)
            self.down.append(part)
        self.mid = nn.Module()
        self.mid.block_1, self.mid.block_2 = DdimBlock(now, now, embedding), DdimBlock(now, now, embedding)
        self.mid.attn_1 = DdimAttention(now)
        for level, width in reversed(list(enumerate(widths))):
            part = nn.Module()
            part.block, part.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(blocks + 1):
                part.block.append(DdimBlock(now + skips.pop(), width, embedding))
                now = width
                if level in attention:
                    part.attn.append(DdimAttention(now))
            if level:
                part.upsample = nn.Module()
                part.upsample.conv = nn.Conv2d(now, now, 3, 1, 1)
            self.up.insert(0, part)
        self.norm_out, self.conv_out = nn.GroupNorm(32, now, 1e-6), nn.Conv2d(now, out, 3, 1, 1)

    def forward(self, x, t):
        half = self.channels // 2
        angles = t[:, None].float() * torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))[None]
        temb = self.temb.dense[1](F.silu(self.temb.dense[0](torch.cat([angles.sin(), angles.cos()], 1))))
        hs = [self.conv_in(x)]
        for part in self.down:
            for number, block in enumerate(part.block):
                h = block(hs[-1], temb)
                hs.append(part.attn[number](h) if len(part.attn) else h)
            if hasattr(part, "downsample"):
                hs.append(part.downsample.conv(F.pad(hs[-1], (0, 1, 0, 1))))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(hs[-1], temb)), temb)
        for part in reversed(self.up):
            for number, block in enumerate(part.block):
                h = block(torch.cat([h, hs.pop()], 1), temb)
                h = part.attn[number](h) if len(part.attn) else h
            if hasattr(part, "upsample"):
                h = part.upsample.conv(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(h)))


# -- guided-diffusion: everything lies in input_blocks, middle_block, output_blocks --------------------------


class GuidedBlock(nn.Module):
    def __init__(self, inputs, width, embedding, scale_shift=True, grid=None):
        super().__init__()
        self.scale_shift, self.grid = scale_shift, grid
        self.in_layers = nn.Sequential(nn.GroupNorm(32, inputs), nn.SiLU(), nn.Conv2d(inputs, width, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * width if scale_shift else width))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(width, width, 3, padding=1)
        )
        self.skip_connection = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()

    def forward(self, x, emb):
        h = self.in_layers[1](self.in_layers[0](x))
        if self.grid is not None:
            h, x = self.grid(h), self.grid(x)
        h = self.in_layers[2](h)
        told = self.emb_layers(emb)[..., None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, 1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + told)
        return self.skip_connection(x) + h


class GuidedAttention(nn.Module):
    def __init__(self, width, heads, by_role=False):
        super().__init__()
        self.heads, self.by_role = heads, by_role
        self.norm, self.qkv = nn.GroupNorm(32, width), nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x):
        b, c, places = x.shape[0], x.shape[1], x.flatten(2)
        qkv, each = self.qkv(self.norm(places)), c // self.heads
        if self.by_role:
            q, k, v = (part.reshape(b * self.heads, each, -1) for part in qkv.chunk(3, 1))
        else:
            q, k, v = qkv.reshape(b * self.heads, 3 * each, -1).split(each, 1)
        weights = torch.softmax(torch.einsum("bct,bcs->bts", q * each**-0.25, k * each**-0.25), -1)
        h = torch.einsum("bts,bcs->bct", weights, v).reshape(b, c, -1)
        return (places + self.proj_out(h)).reshape(x.shape)


class GuidedDown(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, x):
        return self.op(x)


class GuidedUp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Guided(nn.Module):
    def __init__(
        self, channels=32, multipliers=(1, 2, 2), blocks=2, attention=(1, 2), out=6, heads=4, scale_shift=True,
        updown=True, by_role=False,
    ):  # fmt: skip
        super().__init__()
        self.channels, embedding, levels = channels, 4 * channels, len(multipliers)
        self.time_embed = nn.Sequential(nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding))

        def block(inputs, width, grid=None):
            return GuidedBlock(inputs, width, embedding, scale_shift, grid)

        now = channels * multipliers[0]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, now, 3, padding=1)])])
        self.output_blocks, skips = nn.ModuleList(), [now]
        for level, m in enumerate(multipliers):
            for _ in range(blocks):
                layers = [block(now, m * channels)]
                now = m * channels
                layers += [GuidedAttention(now, heads, by_role)] if level in attention else []
                self.input_blocks.append(nn.ModuleList(layers))
                skips.append(now)
            if level < levels - 1:
                self.input_blocks.append(
                    nn.ModuleList([block(now, now, nn.AvgPool2d(2)) if updown else GuidedDown(now)])
                )
                skips.append(now)
        self.middle_block = nn.ModuleList([block(now, now), GuidedAttention(now, heads, by_role), block(now, now)])
        for level, m in reversed(list(enumerate(multipliers))):
            for number in range(blocks + 1):
                layers = [block(now + skips.pop(), m * channels)]
                now = m * channels
                layers += [GuidedAttention(now, heads, by_role)] if level in attention else []
                if level and number == blocks:
                    layers.append(block(now, now, nn.Upsample(scale_factor=2)) if updown else GuidedUp(now))
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, now), nn.SiLU(), nn.Conv2d(now, out, 3, padding=1))

    def forward(self, x, t):
        half = self.channels // 2
        angles = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)[None]
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1))
        h, hs = x, []
        for layers in self.input_blocks:
            h = _through(layers, h, emb)
            hs.append(h)
        h = _through(self.middle_block, h, emb)
        for layers in self.output_blocks:
            h = _through(layers, torch.cat([h, hs.pop()], 1), emb)
        return self.out(h)


def _through(layers, h, emb):
    for layer in layers:
        h = layer(h, emb) if isinstance(layer, GuidedBlock) else layer(h)
    return h
