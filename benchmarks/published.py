"""Networks against those whose trained weights are published: torchvision's.

    python benchmarks/published.py

Copies random weights of torchvision's networks into ours with batch normalization and
prints the largest difference of outputs, over the largest output, for two image sizes.
Needs torch and torchvision.
"""

import numpy as np
import torch
from torchvision.models import resnet50, shufflenet_v2_x0_5

from keras_en.models import ResNet50, ShuffleNetV2


def resnet_layers(network):
    """Name here, convolution and normalization there."""
    yield "stem", network.conv1, network.bn1
    for stage in range(1, 5):
        for block, part in enumerate(getattr(network, f"layer{stage}"), 1):
            prefix = f"stage{stage}_block{block}"
            for i in (1, 2, 3):
                norm = getattr(part, f"bn{i}")
                yield f"{prefix}_{i}", getattr(part, f"conv{i}"), norm
            if part.downsample is not None:
                yield f"{prefix}_shortcut", *part.downsample


def shufflenet_layers(network):
    yield "stem", *network.conv1[:2]
    for stage in (2, 3, 4):
        for block, part in enumerate(getattr(network, f"stage{stage}"), 1):
            prefix = f"stage{stage}_block{block}"
            if block == 1:
                yield f"{prefix}_left_1", *part.branch1[:2]
                yield f"{prefix}_left_2", *part.branch1[2:4]
            for i, start in enumerate((0, 3, 5), 1):
                yield f"{prefix}_{i}", *part.branch2[start : start + 2]
    yield "top", *network.conv5[:2]


def randomize(network):
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low in (
                (module.weight, 0.9),
                (module.bias, -0.1),
                (module.running_mean, -0.1),
                (module.running_var, 0.9),
            ):
                torch.nn.init.uniform_(tensor, low, low + 0.2)
    return network.eval()


def copy(network, model, layers):
    for name, conv, norm in layers:
        kernel = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
        ours = model.get_layer(f"{name}_conv")
        ours.kernel.assign(kernel.reshape(ours.kernel.shape))
        state = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        state = [tensor.detach().numpy() for tensor in state]
        model.get_layer(f"{name}_norm").set_weights(state)
    weight, bias = network.fc.weight.detach().numpy(), network.fc.bias.detach().numpy()
    model.get_layer("predictions").set_weights([weight.T, bias])


def main():
    kwargs = {
        "norm": "bn",
        "norm_kwargs": {"epsilon": 1e-5},
        "classifier_activation": None,
        "input_shape": (None, None, 3),
    }
    for network, model, layers in (
        (resnet50(weights=None), ResNet50(**kwargs), resnet_layers),
        (
            shufflenet_v2_x0_5(weights=None),
            ShuffleNetV2(width=0.5, **kwargs),
            shufflenet_layers,
        ),
    ):
        copy(randomize(network), model, layers(network))
        for size in (224, 193):
            x = np.random.default_rng(0).normal(size=(2, size, size, 3))
            x = x.astype("float32")
            expected = network(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
            outputs = np.asarray(model(x, training=False))
            difference = np.abs(outputs - expected).max() / np.abs(expected).max()
            print(f"{model.name} {size}: {difference:.1e}")


if __name__ == "__main__":
    main()
