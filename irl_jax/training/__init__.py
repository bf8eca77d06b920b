"""Parts shared by training stages: gradients, optimiser, checkpoints and the supervised loop."""
