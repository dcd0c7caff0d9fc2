"""Write the small Keras networks of this folder with tf2onnx; run by hand, never by the tests.

Weights and batch statistics are seeded and drawn at random. Made with tensorflow-cpu 2.21.0, Keras 3.15.1 and tf2onnx
1.17.0:

    python tests/data/exports/make_keras_exports.py
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers

HERE = Path(__file__).parent


def convolution(x, M: int, kernel: int, **options):
    """Convolution without bias and batch normalisation."""
    x = layers.Conv2D(M, kernel, padding="same", use_bias=False, **options)(x)
    return layers.BatchNormalization()(x)


def pooled() -> keras.Model:
    """Rescaled input, ReLU6, a residual, a concatenation and a global average."""
    image = keras.Input((9, 9, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.ReLU()(convolution(x, 4, 3, strides=2))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Add()([x, convolution(layers.ReLU(6.0)(y), 4, 1)])
    x = layers.Concatenate()([x, layers.MaxPooling2D(3, 1, padding="same")(x)])
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(5, activation="softmax")(x))


def normalised() -> keras.Model:
    """Input normalised per channel, zero padding, a global maximum."""
    image = keras.Input((8, 7, 3), name="image")
    x = layers.Rescaling([1 / 60, 1 / 70, -1 / 50], offset=[-1.8, -1.7, 2.6])(image)
    x = layers.Conv2D(4, 3, activation="relu", padding="same", strides=2)(x)
    x = layers.Conv2D(6, 2, activation="relu")(layers.ZeroPadding2D(1)(x))
    return keras.Model(image, layers.Dense(5)(layers.GlobalMaxPooling2D()(x)))


def flattened() -> keras.Model:
    """A map flattened in the order (H, W, C)."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.MaxPooling2D()(layers.Conv2D(4, 3, activation="relu")(image))
    return keras.Model(image, layers.Dense(5)(layers.Flatten()(x)))


def randomise(model: keras.Model, seed: int) -> keras.Model:
    """Give batch statistics and scales values of both signs, so that folding them matters."""
    draw = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            scale, shift, mean, variance = (value.shape for value in layer.get_weights())
            signs = np.where(draw.random(scale) < 0.5, -1, 1)
            vectors = [draw.uniform(0.5, 1.5, scale) * signs, draw.normal(0, 0.5, shift), draw.normal(0, 0.3, mean)]
            layer.set_weights([*vectors, draw.uniform(0.5, 1.5, variance)])
    return model


def export(model: keras.Model, name: str) -> None:
    """Export with Keras itself, which calls tf2onnx; the input stays (N, H, W, C)."""
    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports what has been called
    model.export(str(HERE / f"{name}.onnx"), format="onnx", opset_version=17, verbose=False)


def export_channels_first(model: keras.Model, name: str) -> None:
    """Convert the inference function with tf2onnx and ask for an input (N, C, H, W)."""
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    path = str(HERE / f"{name}.onnx")
    tf2onnx.convert.from_function(
        function, input_signature=signature, opset=17, output_path=path, inputs_as_nchw=["image"]
    )


def main() -> None:
    """Write all files."""
    keras.utils.set_random_seed(0)
    net = randomise(pooled(), 1)
    export(net, "keras_pooled")
    export_channels_first(net, "keras_pooled_nchw")
    export(normalised(), "keras_normalised")
    export(flattened(), "keras_flattened")


if __name__ == "__main__":
    main()
