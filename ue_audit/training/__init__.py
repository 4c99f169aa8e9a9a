"""What methods that train a network share: the networks, the loop, the augmentation, the signed step."""
