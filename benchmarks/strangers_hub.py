"""Families of keras-hub, for `strangers.py`, as small as they allow."""

SHAPE = (64, 64, 3)


def hub(name, **kwargs):
    import keras_hub

    return getattr(keras_hub.models, name)(**kwargs)


def resnet(**kwargs):
    sizes = {"input_conv_filters": [64], "input_conv_kernel_sizes": [7]}
    sizes |= {"stackwise_num_filters": [64, 64, 64], "stackwise_num_blocks": [1, 1, 1]}
    sizes |= {"stackwise_num_strides": [1, 2, 2], "block_type": "basic_block"}
    return hub("ResNetBackbone", **{**sizes, "image_shape": SHAPE, **kwargs})


def cspnet():
    return hub(
        "CSPNetBackbone",
        stem_filters=16,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 1, 2],
        stackwise_strides=[1, 2, 2],
        stackwise_num_filters=[16, 32, 64],
        block_type="dark_block",
        stage_type="dark",
        image_shape=SHAPE,
    )


def xception():
    filters = [[8, 8], [8, 16], [16, 16]]
    pooling = [True, True, False]
    return hub(
        "XceptionBackbone",
        stackwise_conv_filters=filters,
        stackwise_pooling=pooling,
        image_shape=SHAPE,
    )


def efficientnet():
    n = 2  # One of each type of block.
    return hub(
        "EfficientNetBackbone",
        stackwise_width_coefficients=[1.0] * n,
        stackwise_depth_coefficients=[1.0] * n,
        stackwise_kernel_sizes=[3] * n,
        stackwise_num_repeats=[1] * n,
        stackwise_input_filters=[8] * n,
        stackwise_output_filters=[8] * n,
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0.25] * n,
        stackwise_strides=[1, 2],
        stackwise_block_types=["fused", "unfused"],
        image_shape=SHAPE,
    )


def mobilenet():
    return hub(
        "MobileNetBackbone",
        stackwise_expansion=[[16, 24], [24, 32]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[8, 8], [16, 16]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=32,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        last_layer_filter=32,
        squeeze_and_excite=0.5,
        image_shape=SHAPE,
    )


def mobilenetv5():
    one = {
        "block_types": ["er", "uir"],
        "num_filters": [8, 16],
        "strides": [2, 2],
        "act_layers": ["relu", "relu"],
        "exp_ratios": [4.0, 4.0],
        "se_ratios": [0.0, 0.0],
        "dw_kernel_sizes": [0, 5],
        "dw_start_kernel_sizes": [0, 0],
        "dw_end_kernel_sizes": [0, 0],
        "exp_kernel_sizes": [3, 0],
        "pw_kernel_sizes": [1, 0],
        "num_heads": [0, 0],
        "key_dims": [0, 0],
        "value_dims": [0, 0],
        "kv_strides": [0, 0],
        "use_cpe": [False, False],
    }
    stages = {f"stackwise_{key}": [[v] for v in values] for key, values in one.items()}
    return hub(
        "MobileNetV5Backbone",
        **stages,
        stackwise_num_blocks=[1, 1],
        use_msfa=False,
        norm_layer="batch_norm",
        image_shape=SHAPE,
    )


def hgnetv2():
    return hub(
        "HGNetV2Backbone",
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[16, 16],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=True,
        stackwise_stage_filters=[(8, 8, 16, 1, 2, 3), (16, 8, 16, 1, 2, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
        image_shape=SHAPE,
    )


def retinanet():
    encoder = resnet(image_shape=(128, 128, 3), stackwise_num_strides=[1, 2, 2])
    return hub(
        "RetinaNetBackbone",
        image_encoder=encoder,
        min_level=2,
        max_level=4,
        use_p5=False,
        use_fpn_batch_norm=True,
        image_shape=(128, 128, 3),
    )


def deeplab():
    return hub(
        "DeepLabV3Backbone",
        image_encoder=resnet(),
        spatial_pyramid_pooling_key="P3",
        low_level_feature_key="P2",
        upsampling_size=2,
        dilation_rates=[2, 4],
        projection_filters=8,
        image_shape=SHAPE,
    )


def segformer():
    encoder = hub(
        "MiTBackbone",
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        hidden_dims=[8, 16],
        image_shape=SHAPE,
    )
    return hub("SegFormerBackbone", image_encoder=encoder, projection_filters=8)


def basnet():
    four = {"stackwise_num_filters": [64] * 4, "stackwise_num_blocks": [1] * 4}
    strides = {"stackwise_num_strides": [1, 2, 2, 2]}
    encoder = resnet(**four, **strides, image_shape=(None, None, 3))
    return hub(
        "BASNetBackbone",
        image_encoder=encoder,
        num_classes=1,
        image_shape=SHAPE,
    )


def d_fine():
    stage = {"hidden_act": "relu", "image_shape": (128, 128, 3)}
    encoder = hub(
        "HGNetV2Backbone",
        depths=[1, 1, 1],
        embedding_size=8,
        hidden_sizes=[16, 16, 16],
        stem_channels=[3, 8, 8],
        use_learnable_affine_block=True,
        stackwise_stage_filters=[(8, 8, 16, 1, 1, 3)] + [(16, 8, 16, 1, 1, 3)] * 2,
        apply_downsample=[False, True, True],
        use_lightweight_conv_block=[False, False, False],
        out_features=["stage1", "stage2", "stage3"],
        **stage,
    )
    return hub(
        "DFineBackbone",
        backbone=encoder,
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_labels=4,
        num_denoising=0,
        learn_initial_query=False,
        num_queries=8,
        anchor_image_size=(128, 128),
        feat_strides=[8, 16],
        num_feature_levels=2,
        hidden_dim=16,
        encoder_in_channels=[16, 16],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=16,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=8,
        num_lqe_layers=2,
        out_features=["stage2", "stage3"],
        image_shape=(128, 128, 3),
    )


def classifier(name, backbone):
    return lambda: hub(name, backbone=backbone(), num_classes=3)


def densenet():
    return hub(
        "DenseNetBackbone",
        stackwise_num_repeats=[1, 1, 1],
        growth_rate=4,
        image_shape=SHAPE,
    )


NETWORKS = {
    "ResNet": resnet,
    "ResNet, task": classifier("ResNetImageClassifier", resnet),
    "CSPNet": cspnet,
    "DenseNet": densenet,
    "Xception": xception,
    "EfficientNet": efficientnet,
    "MobileNet": mobilenet,
    "MobileNetV5": mobilenetv5,
    "HGNetV2": hgnetv2,
    "RetinaNet": retinanet,
    "DeepLabV3+": deeplab,
    "SegFormer": segformer,
    "BASNet": basnet,
    "D-FINE": d_fine,
    "DeepLabV3+, task": classifier("DeepLabV3ImageSegmenter", deeplab),
    "EfficientNet, task": classifier("EfficientNetImageClassifier", efficientnet),
}
