"""Distil a labelled image set into one small file, and prove what that file is worth: see conf/distill.yaml."""

from infer.cli import command


def task(config):  # type: ignore[no-untyped-def]
    """One run; imported late, so that --help and mistakes answer at once."""
    if config.tune:
        from infer.tune import tune

        return tune(config)
    from infer.runs import distill

    return distill(config)


if __name__ == "__main__":
    command("distill", task)
