"""vaekit.training.engine.traced"""
