"""Uses of inverted images: data-free distillation, fooling images ("counterfeits"), fine-tuning.

The uses are those of the slides of Taparia, "Neural Network Inversion" (supervised research
project, IIT Bombay), section "Applications".
"""
