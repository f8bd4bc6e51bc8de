"""Recipes: what settles a training. One YAML file each; the paper's tables as grids."""
