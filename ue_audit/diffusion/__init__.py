"""The diffusion prior: tables, network, use and file (`prior`), training (`fit`), samplers.

    foreign                             priors in the files of other code
    dialects, shapes                    whose network it is, and what its tensors show of it
    diffusers_layout, ddim_layout, guided_layout    their names and configurations in ours

Pixels are [-1,1] inside this folder, timesteps count t = 1..T as in the papers, and alpha_bar(0) = 1.
"""
