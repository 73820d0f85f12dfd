"""Reconstruction of training images: comparison with real images, and the verdict of an audit.

Suhail, Tang and Sethi 2024 (arXiv 2411.17777, section 5.3). `real_images` selects members (training
images) and non-members (held-out images), `comparison` compares reconstructions with both,
`control_sets` provides positive and negative controls, `audit_verdict` draws the conclusion.
"""
