"""Tensors in, tensors out: the paper's equations and the pure functions beside them."""
