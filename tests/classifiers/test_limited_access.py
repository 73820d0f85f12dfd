"""A method with less access to the classifier cannot reach more."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning.classifiers.build import load_zoo


def test_scores_have_the_same_values_and_no_gradient() -> None:
    classifier = load_zoo("mnist_mlp")
    x_BCHW = torch.rand(4, *classifier.spec.shape, requires_grad=True)
    scores = classifier.limited_to("scores")
    assert torch.equal(scores(x_BCHW), classifier(x_BCHW))
    assert classifier(x_BCHW).requires_grad
    assert not scores(x_BCHW).requires_grad
    with pytest.raises(PermissionError, match="limited to scores: no features"):
        scores.logits_and_features(x_BCHW)


def test_labels_are_the_classes_of_the_largest_scores() -> None:
    classifier = load_zoo("mnist_mlp")
    x_BCHW = torch.rand(16, *classifier.spec.shape)
    label_BN = classifier.limited_to("labels")(x_BCHW)
    assert torch.equal(label_BN.argmax(dim=1), classifier(x_BCHW).argmax(dim=1))
    assert torch.equal(label_BN.sum(dim=1), torch.ones(16))
    assert set(label_BN.unique().tolist()) == {0.0, 1.0}


def test_a_limited_classifier_shares_its_counts_and_weights() -> None:
    classifier = load_zoo("mnist_mlp")
    limited = classifier.limited_to("labels")
    assert limited.whole is classifier
    assert classifier.whole is classifier
    assert classifier.limited_to("gradients") is classifier
    before = classifier.forward_count.forwards
    limited(torch.rand(5, *classifier.spec.shape))
    assert limited.forward_count is classifier.forward_count
    assert classifier.forward_count.forwards == before + 5
    classifier.to(torch.float64)
    assert next(limited.parameters()).dtype == limited.mean_C11.dtype == torch.float64
