"""Experiments: each folder has the script, its committed results and a page about them.

Run them from the root of the project:

    python -m experiments.ood.run --help
"""
