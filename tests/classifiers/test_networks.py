"""The networks that the project trains."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.build import build_network
from netinv_lightning.classifiers.networks import (
    CNN,
    MLP,
    ResidualBlock,
    ResNet,
    StridedCNN,
    ViT,
)
from netinv_lightning.classifiers.transformer_blocks import Attention
from netinv_lightning.data.specs import CIFAR10, MNIST
from netinv_lightning.errors import InputError

NETWORKS = [CNN, MLP, ResNet, StridedCNN, ViT]


def executed(network: nn.Module, x_BCHW: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Return the leaf modules in the order of execution, each with its output."""
    ran: list[tuple[nn.Module, Tensor]] = []
    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [
        leaf.register_forward_hook(lambda module, _, output: ran.append((module, output)))
        for leaf in leaves
    ]
    with torch.no_grad():
        network(x_BCHW)
    for handle in handles:
        handle.remove()
    return ran


def only(network: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "size", "classes"), list(product(NETWORKS, [(1, 28), (3, 32)], [2, 10, 100]))
)
def test_every_network_returns_one_logit_per_class(
    network: type[nn.Module], size: tuple[int, int], classes: int
) -> None:
    channels, side = size
    torch.manual_seed(0)
    made = network(classes, channels, side).eval()
    x_BCHW = torch.rand(3, channels, side, side)
    logits_BN = made(x_BCHW)
    assert logits_BN.shape == (3, classes)
    # The logits of an image do not depend on the other images,
    assert torch.allclose(logits_BN[1:2], made(x_BCHW[1:2]), atol=1e-5)
    assert logits_BN.std(dim=0).min() > 0  # but they depend on the image


def test_the_cnn_has_the_layers_of_the_papers_in_order() -> None:
    kinds = [
        type(module)
        for module, _ in executed(
            CNN(10, 1, 28, stages=[[8], [8, 8]]).eval(), torch.rand(2, 1, 28, 28)
        )
    ]
    block = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    convolutions = [*block, nn.MaxPool2d, *block, *block, nn.MaxPool2d]
    assert kinds == [
        *convolutions,
        nn.Flatten,
        nn.Dropout,
        nn.Linear,
        nn.BatchNorm1d,
        nn.LeakyReLU,
        nn.Dropout,
        nn.Linear,
    ]


def test_options_of_the_cnn_take_effect() -> None:
    cnn = CNN(10, 3, 32, stages=[[4, 5], [6]], hidden=7, pool="avg", dropout=0.3, slope=0.25)
    assert [(conv.in_channels, conv.out_channels) for conv in only(cnn, nn.Conv2d)] == [
        (3, 4),
        (4, 5),
        (5, 6),
    ]
    assert [(linear.in_features, linear.out_features) for linear in only(cnn, nn.Linear)] == [
        (6 * 8 * 8, 7),
        (7, 10),
    ]
    assert (len(only(cnn, nn.AvgPool2d)), len(only(cnn, nn.MaxPool2d))) == (2, 0)
    assert {dropout.p for dropout in only(cnn, nn.Dropout)} == {0.3}
    assert {relu.negative_slope for relu in only(cnn, nn.LeakyReLU)} == {0.25}
    ran = executed(cnn.eval(), torch.rand(2, 3, 32, 32))
    assert [
        tuple(output.shape[1:]) for module, output in ran if isinstance(module, nn.AvgPool2d)
    ] == [(5, 16, 16), (6, 8, 8)]


def test_the_kind_of_pooling_changes_the_logits() -> None:
    average, maximum = CNN(10, 1, 28, pool="avg").eval(), CNN(10, 1, 28).eval()
    maximum.load_state_dict(average.state_dict())
    x_BCHW = torch.rand(2, 1, 28, 28)
    assert not torch.allclose(average(x_BCHW), maximum(x_BCHW), atol=1e-3)


def test_a_cnn_without_batch_norm_is_homogeneous() -> None:
    """With four layers and a bias in the first, doubling the weights multiplies logits by 16."""
    torch.manual_seed(0)
    cnn = CNN(10, 1, 28, stages=[[4], [5]], hidden=6, batch_norm=False).eval()
    assert not any(only(cnn, kind) for kind in (nn.BatchNorm1d, nn.BatchNorm2d))
    assert [name for name, _ in cnn.named_parameters() if name.endswith("bias")] == [
        "convolutions.0.0.bias"
    ]
    x_BCHW = torch.rand(3, 1, 28, 28)
    before = cnn(x_BCHW)
    with torch.no_grad():
        for weight in cnn.parameters():
            weight.mul_(2)
    torch.testing.assert_close(cnn(x_BCHW), 16 * before)


def test_parameters_counted_by_hand() -> None:
    # Kernels without bias, and two parameters of BatchNorm per channel
    convolutions = 32 * 1 * 9 + 64 * 32 * 9 + 128 * 64 * 9 + 2 * (32 + 64 + 128)
    fully_connected = 128 * 3 * 3 * 128 + 2 * 128 + 128 * 10 + 10  # side 28 -> 14 -> 7 -> 3
    assert (
        parameters(CNN(10, 1, 28, stages=[[32], [64], [128]]))
        == convolutions + fully_connected
        == 241898
    )
    assert parameters(MLP(10, 1, 28)) == 784 * 256 + 2 * 256 + 256 * 128 + 2 * 128 + 128 * 10 + 10
    block = (4 * 4 * 9 + 2 * 4) * 2
    stage2 = 4 * 8 * 9 + 8 * 8 * 9 + 4 * 8 + 3 * 2 * 8  # with a 1 x 1 shortcut
    assert (
        parameters(ResNet(10, 3, 32, widths=[4, 8]))
        == (3 * 4 * 9 + 2 * 4) + block + stage2 + 8 * 10 + 10
    )
    strided = (3 * 1 * 25 + 3) + (3 * 3 * 25 + 3) + (6 * 3 * 25 + 6) + (6 * 6 * 25 + 6)
    strided += 2 * (3 + 3 + 6 + 6) + 6 * 10 + 10  # GroupNorm has two parameters per channel
    assert parameters(StridedCNN(10, 1, 28, widths=[3, 6], kernel=5, groups=3)) == strided
    attention, mlp = 6 * 18 + 18 + 6 * 6 + 6, 6 * 12 + 12 + 12 * 6 + 6
    vit = 16 * 6 + 6 + 49 * 6 + (attention + mlp + 4 * 6) + 2 * 6 + 6 * 10 + 10
    assert parameters(ViT(10, 1, 28, dim=6, depth=1, heads=2, stem=0)) == vit


def test_options_of_the_mlp_take_effect() -> None:
    mlp = MLP(10, 3, 32, widths=[6, 5, 4], dropout=0.4, slope=0.3)
    assert [(linear.in_features, linear.out_features) for linear in only(mlp, nn.Linear)] == [
        (3072, 6),
        (6, 5),
        (5, 4),
        (4, 10),
    ]
    assert not only(mlp, nn.Conv2d)
    assert [dropout.p for dropout in only(mlp, nn.Dropout)] == [0.4] * 3
    assert {relu.negative_slope for relu in only(mlp, nn.LeakyReLU)} == {0.3}


@pytest.mark.parametrize(("stem_stride", "sides"), [(1, [32, 16, 8]), (2, [16, 8, 4])])
def test_options_of_the_resnet_take_effect(stem_stride: int, sides: list[int]) -> None:
    resnet = ResNet(10, 3, 32, widths=[4, 6, 8], blocks=2, stem_stride=stem_stride)
    blocks = only(resnet, ResidualBlock)
    outputs: list[tuple[int, ...]] = []
    for block in blocks:
        block.register_forward_hook(
            lambda module, _, output: outputs.append(tuple(output.shape[1:]))
        )
    resnet.eval()(torch.rand(1, 3, 32, 32))
    assert outputs == [
        (width, side, side) for width, side in zip([4, 6, 8], sides, strict=True) for _ in range(2)
    ]
    assert resnet.head.in_features == 8
    assert [type(block.shortcut) is nn.Identity for block in blocks] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(("channels_out", "stride"), [(3, 1), (5, 2)])
def test_a_residual_block_adds_its_shortcut(channels_out: int, stride: int) -> None:
    block = ResidualBlock(3, channels_out, stride).eval()
    x_BCHW = torch.randn(2, 3, 8, 8)
    assert torch.equal(block(x_BCHW), (block.residual(x_BCHW) + block.shortcut(x_BCHW)).relu())
    # Without the residual branch, only the shortcut is left.
    nn.init.zeros_(block.residual[-1].weight)
    assert torch.equal(block(x_BCHW), block.shortcut(x_BCHW).relu())


def test_the_strided_cnn_shares_no_kind_of_layer_with_the_inverted_networks() -> None:
    ran = executed(StridedCNN(10, 1, 28, widths=[8, 16], groups=4).eval(), torch.rand(2, 1, 28, 28))
    kinds = [type(module) for module, _ in ran]
    block = [nn.Conv2d, nn.GroupNorm, nn.GELU]
    assert kinds == [*block * 4, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]
    sides = [output.shape[-1] for module, output in ran if isinstance(module, nn.Conv2d)]
    assert sides == [14, 14, 7, 7]  # the first convolution of each pair halves the side


def test_options_of_the_vit_take_effect() -> None:
    vit = ViT(10, 3, 32, patch=8, dim=12, depth=3, heads=2, expansion=4, stem=5, dropout=0.2)
    assert vit.positions_TD.shape == (16, 12)
    assert [attention.heads for attention in only(vit, Attention)] == [2] * 3
    assert [
        (linear.in_features, linear.out_features) for linear in only(vit.blocks[0].mlp, nn.Linear)
    ] == [(12, 48), (48, 12)]
    assert [
        (conv.in_channels, conv.out_channels, conv.stride) for conv in only(vit, nn.Conv2d)
    ] == [(3, 5, (1, 1)), (5, 12, (8, 8))]
    assert {dropout.p for dropout in only(vit, nn.Dropout)} == {0.2}
    assert len(only(ViT(10, 3, 32, stem=0), nn.Conv2d)) == 1


def test_the_vit_depends_on_the_positions_of_patches() -> None:
    torch.manual_seed(0)
    vit = ViT(10, 1, 28, patch=14, stem=0).eval()
    x_BCHW = torch.rand(1, 1, 28, 28)
    moved_BCHW = x_BCHW.roll(14, dims=3)  # the same four patches at other positions
    assert not torch.allclose(vit(x_BCHW), vit(moved_BCHW), atol=1e-4)
    nn.init.zeros_(vit.positions_TD)
    assert torch.allclose(vit(x_BCHW), vit(moved_BCHW), atol=1e-5)


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_equals_that_of_torch_for_equal_weights(heads: int) -> None:
    torch.manual_seed(0)
    attention = Attention(12, heads)
    t_BTD = torch.randn(2, 5, 12)
    q, k, v = (
        part.view(2, 5, heads, -1).transpose(1, 2)
        for part in attention.to_qkv(t_BTD).chunk(3, dim=-1)
    )
    expected_BTD = attention.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(t_BTD), expected_BTD)
    theirs = nn.MultiheadAttention(12, heads, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = (
        attention.to_qkv.weight.data,
        attention.to_qkv.bias.data,
    )
    theirs.out_proj.load_state_dict(attention.out.state_dict())
    torch.testing.assert_close(attention(t_BTD), theirs(t_BTD, t_BTD, t_BTD)[0])


def test_attention_has_a_second_derivative() -> None:
    torch.manual_seed(0)
    attention = Attention(4, 2).double()
    assert torch.autograd.gradgradcheck(
        attention, torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    )


@pytest.mark.parametrize(
    ("cls", "options", "argument"),
    [
        ("CNN", {"pool": "mean"}, "pool=mean"),
        ("CNN", {"stages": [[4]] * 6}, "stages="),
        ("CNN", {"dropout": 2.0}, "dropout"),
        ("CNN", {"width": 3}, "width"),
        ("ViT", {"patch": 5}, "patch=5"),
        ("ViT", {"heads": 5}, "heads=5"),
        ("StridedCNN", {"widths": [12]}, "widths=[12]"),
    ],
)
def test_an_invalid_option_gives_one_line_that_names_it(
    cls: str, options: dict[str, object], argument: str
) -> None:
    with pytest.raises(InputError) as caught:
        build_network(
            {"_target_": f"netinv_lightning.classifiers.networks.{cls}", **options}, CIFAR10
        )
    assert str(caught.value).startswith("classifier.network")
    assert argument in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_is_a_module_and_its_config_has_priority() -> None:
    for target in ("netinv_lightning.classifiers.networks.CNNN", "collections.OrderedDict"):
        with pytest.raises(InputError, match=r"classifier\.network"):
            build_network({"_target_": target}, MNIST)
    made = build_network(
        {"_target_": "netinv_lightning.classifiers.networks.MLP", "widths": [5], "num_classes": 4},
        MNIST,
    )
    assert [(linear.in_features, linear.out_features) for linear in only(made, nn.Linear)] == [
        (784, 5),
        (5, 4),
    ]
