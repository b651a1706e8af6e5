"""Train one classifier: a teacher on the real set, or a student on a random or distilled one: see conf/train.yaml."""

from infer.cli import command


def task(config):  # type: ignore[no-untyped-def]
    """One run; imported late, so that --help and mistakes answer at once."""
    from infer.runs import train

    return train(config)


if __name__ == "__main__":
    command("train", task)
