"""The example that creates a W&B workspace."""

import runpy
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "wandb_dashboard.py"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydantic's, of wandb-workspaces' own classes
def test_the_workspace_has_the_panels_of_a_sweep():
    pytest.importorskip("wandb_workspaces")
    created = runpy.run_path(str(EXAMPLE))["workspace"]("team", "infer", ["convnet_narrow", "resnet18"], "ipc-0a1b2c3d")
    panels = {section.name: section.panels for section in created.sections}
    assert [len(some) for some in panels.values()] == [5, 5, 3]
    assert [panel.y.name for panel in panels["Results"][:2]] == [
        "accuracy/convnet_narrow/distilled",
        "accuracy/resnet18/distilled",
    ]
    assert "ipc-0a1b2c3d" in created._to_model().model_dump_json()
