"""vaekit.cli"""
