"""Tensors in, tensors out: the paper and the pure functions beside it; and options, errors and files of every room."""
