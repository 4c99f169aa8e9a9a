"""The diffusion prior: `schedule` (the tables), `unet` (the network), `prior` (training, files), `sampling` (steps).

Pixels are [-1,1] inside this folder, timesteps count t = 1..T as in the papers, and alpha_bar(0) = 1.
"""
