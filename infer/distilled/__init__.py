"""The distilled file: its dataset, its header, its checks."""
