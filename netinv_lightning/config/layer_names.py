"""Names of feature layers that every network has, whatever its modules are called."""

PENULTIMATE = "penultimate"
"""The default features: the input of the last nn.Linear, or of the last convolution, pooled."""
LOGITS = "logits"
"""The logits as features, for networks whose layers cannot be recorded."""
