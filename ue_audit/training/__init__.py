"""What methods share: networks, training loops, searches for noise.

    backbones, fit, augment, rows       classifiers and how they are trained; crops and flips; labels and order
    views, contrastive, contrastive_fit     learning without labels
    probe, knn                          what frozen features are worth
    supervised_fit, zoo, joined         training with labels; larger networks; the attacker's own images beside others
    mixing, displacement, plasma        what countermeasures do to a batch: holes and mixes, COIN, UEraser's fractals
    trivial_augment, fast_autoaugment   drawn operations, and a published policy of them
    vae, linear_vae                     the networks of D-VAE
    surrogate, encoders, pretrained     a classifier of the owner's images; frozen feature extractors by path
    transfer                            classifiers that start from those
    pgd, noise, cost                    signed steps, tables of noise, what a search will take
    minmin, targeted, alignment         the searches of EMN and AUE; of TAP, AAP, SEP and HYPO; of CP
    kmeans, generator                   the parts of UC
    perceptual, lpips_weights           LPIPS and the guides of purification, and where their weights are
"""
