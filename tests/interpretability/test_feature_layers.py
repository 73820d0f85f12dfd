"""Features of a layer, and the part of the network after this layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError
from netinv_lightning.interpretability.feature_layers import head_of, map_layers


def images(classifier: FrozenClassifier, count: int = 7) -> torch.Tensor:
    spec = classifier.spec
    return torch.rand(
        count,
        spec.channels,
        spec.image_size,
        spec.image_size,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize(
    "layer", ["penultimate", "convolutions", "convolutions.2.0", "fully_connected.1"]
)
def test_the_head_maps_features_to_the_classifiers_logits(layer: str) -> None:
    zoo = load_zoo("mnist_cnn")
    classifier = FrozenClassifier(zoo.network, zoo.spec, [layer])
    classifier.check_cut(layer)
    x_BCHW = images(classifier)
    seen = extract_features(classifier, x_BCHW, layer=layer, batch_size=3, channels_last=False)
    torch.testing.assert_close(seen.logits_nN, zoo(x_BCHW))
    torch.testing.assert_close(head_of(classifier, layer, batch=4)(seen.features_nD), zoo(x_BCHW))
    assert seen.features_nD.shape == (7, classifier.feature_dims[layer])


def test_the_head_is_differentiable_in_the_features() -> None:
    classifier = load_zoo("mnist_cnn")
    linear = [module for module in classifier.network.modules() if isinstance(module, nn.Linear)][
        -1
    ]
    f_BD = torch.randn(2, linear.in_features, requires_grad=True)
    (gradient_BD,) = torch.autograd.grad(classifier.logits_from(f_BD)[:, 3].sum(), f_BD)
    torch.testing.assert_close(gradient_BD, linear.weight[3].expand(2, -1))


@pytest.mark.parametrize("layer", ["residual.3.shortcut", "residual.3.shortcut.1"])
def test_a_layer_that_a_path_bypasses_is_refused(layer: str) -> None:
    zoo = load_zoo("mnist_resnet")
    with pytest.raises(
        InputError, match=rf"feature_layers={layer}: the logits do not come from this layer alone"
    ):
        FrozenClassifier(zoo.network, zoo.spec, [layer]).check_cut(layer)
    FrozenClassifier(zoo.network, zoo.spec, ["residual.3"]).check_cut("residual.3")


def test_only_layers_with_feature_maps_are_listed() -> None:
    layers = map_layers(load_zoo("mnist_cnn"))
    assert list(layers)[-2:] == ["convolutions.5", "convolutions"]
    assert layers["convolutions"] == (128, 3, 3)
    assert map_layers(load_zoo("mnist_mlp")) == {}
