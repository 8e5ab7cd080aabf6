"""vaekit.training.checkpoints.store"""
