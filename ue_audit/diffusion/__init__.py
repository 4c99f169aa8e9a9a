"""The diffusion prior: tables, network, use and file (`prior`), training (`fit`), samplers.

Pixels are [-1,1] inside this folder, timesteps count t = 1..T as in the papers, and alpha_bar(0) = 1.
"""
