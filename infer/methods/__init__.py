"""The distillation methods under one interface, a file each.

A method selects or creates the natural images of a set. The budget, the codec, the compensators and the labels come
after it and are the same for all methods.

To add a method: write its module here, with a function ``select(inputs, options) -> Naturals``; add its
:class:`infer.methods.options.Method` to ``_ALL`` in options.py, with an option class where it has options; add
conf/method/<name>.yaml, whose values a test holds to that class.
"""
