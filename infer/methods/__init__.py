"""The distillation methods under one interface, a file each.

A method selects or creates the natural images of a set. The budget, the codec, the compensators and the labels come
after it and are the same for all methods.
"""
