"""Train one classifier on the real set, on random pictures or on a distilled file; options are in conf/train.yaml."""

from infer.cli import train

if __name__ == "__main__":
    train()
