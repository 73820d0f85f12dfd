"""`netinv help` and `netinv list`: what every key, choice, detector and term means.

Nothing here imports torch. Meanings are read from the docstrings of the code that they describe.
"""
