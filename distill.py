"""Distil a labelled image set into one small file, and prove what that file is worth: see conf/distill.yaml."""

from infer.cli.command import command


def task(config):  # type: ignore[no-untyped-def]
    """One run; imported late, so that --help and mistakes answer at once."""
    if config.tune:
        from infer.pipeline.tune import tune

        return tune(config)
    from infer.pipeline.run import distill

    return distill(config)


if __name__ == "__main__":
    command("distill", task)
