"""Distil a labelled image set into one small file and compare it with baselines; options are in conf/distill.yaml."""

from infer.cli import distill

if __name__ == "__main__":
    distill()
