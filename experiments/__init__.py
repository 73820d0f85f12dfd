"""Experiments: each folder has the script, its committed results and a page about them. Run from the project's root, such as

python -m experiments.ood.run --help
"""
