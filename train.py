"""Train one classifier: a teacher on the real set, or a student on a random or distilled one: see conf/train.yaml."""

from infer.cli.command import command


def task(config):  # type: ignore[no-untyped-def]
    """One run; imported late, so that --help and mistakes answer at once."""
    from infer.pipeline.run import train

    return train(config)


if __name__ == "__main__":
    command("train", task)
