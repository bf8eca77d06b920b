"""What every training stage shares: gradients, optimiser, checkpoints and the supervised loop."""
