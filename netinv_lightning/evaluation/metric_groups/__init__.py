"""Groups of metrics of a set of images: one file and one class per group.

`netinv_lightning.metric_names.METRIC_GROUPS` is the registry.
"""
