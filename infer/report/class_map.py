"""The class map: a t-SNE embedding of test images and of the images of both sets."""

from __future__ import annotations

import torch
from torch import Tensor

from infer.report.feature_space import FeatureSpace
from infer.report.inputs import AnalysisInputs, composed_samples, stored_samples

_MOST = 400  # images of each kind: t-SNE of some thousand takes a quarter of a minute
_FEWEST = 4  # points that t-SNE can embed


def class_map(inputs: AnalysisInputs, space: FeatureSpace) -> tuple[Tensor, Tensor, Tensor]:
    """Embed test images, the distilled set and the random set in one plane, so that both sets can be compared.

    Args:
        inputs: The inputs of the analysis.
        space: The space of the features that are embedded.

    Returns:
        Points float32 [P, 2], their classes int64 [P], and the numbers of their kinds in
        :data:`infer.report.arrays.KINDS`, int64 [P].

    References:
        van der Maaten and Hinton, "Visualizing Data using t-SNE", 2008.
    """
    groups = [inputs.test.first(_MOST)]
    for chosen in (inputs.distilled, inputs.random):
        groups += [stored_samples(chosen, _MOST), composed_samples(chosen, _MOST)]
    points = torch.cat([space.embed(group.images) for group in groups if len(group.images)])
    kinds = torch.cat([torch.full((len(group.targets),), number) for number, group in enumerate(groups)])
    return _plane(points), torch.cat([group.targets for group in groups]), kinds


def _plane(points: Tensor) -> Tensor:
    """Embed ``points`` float32 [P, d] in the plane, [P, 2]. Points that span no plane keep their own coordinates."""
    from sklearn.manifold import TSNE

    if len(points) < _FEWEST or points.shape[1] < 2 or not (points.var(0) > 0).any():
        return torch.nn.functional.pad(points, (0, 2))[:, :2]
    plane = TSNE(perplexity=min(30, (len(points) - 1) / 3), init="pca", random_state=0).fit_transform(points.numpy())
    return torch.from_numpy(plane).float()
