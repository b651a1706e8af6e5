"""The feature space that images are compared in."""

from __future__ import annotations

import torch
from torch import Tensor

from infer.models.weights import features
from infer.report.inputs import AnalysisInputs

_WIDTH = 64  # with some hundred images, further components are noise


class FeatureSpace:
    """The teacher's features, projected onto the first principal components of the test images' features.

    Args:
        inputs: The inputs of the analysis; their test sample defines the components.
    """

    def __init__(self, inputs: AnalysisInputs) -> None:
        self._inputs = inputs
        self._teacher = inputs.teacher.to(inputs.device)
        test = self._features(inputs.test.images)
        self._mean = test.mean(0)
        _, _, directions = torch.linalg.svd(test - self._mean, full_matrices=False)
        self._components = directions[:_WIDTH].T
        self.test = self._project(test)
        """The test sample in this space, float32 [N, d]."""

    @property
    def dimensions(self) -> int:
        """The number of principal components d."""
        return self._components.shape[1]

    def embed(self, images: Tensor) -> Tensor:
        """Return the points float32 [N, d] of ``images`` uint8 [N, ch, H, W]."""
        return self._project(self._features(images))

    def _project(self, found: Tensor) -> Tensor:
        """Project features float32 [N, D] onto the components."""
        return (found - self._mean) @ self._components

    def _features(self, images: Tensor) -> Tensor:
        """Compute the teacher's features of ``images`` uint8 [N, ch, H, W]: float32 [N, D]."""
        return features(self._teacher, self._inputs.batches(images))
