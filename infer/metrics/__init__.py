"""Metrics of networks and of sets of images: tensors in, numbers out."""
