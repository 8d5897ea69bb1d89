"""The equations once more, in float64 NumPy loops: slow, plain, and sharing no code with the package."""

import numpy as np


def mirror_index(position, length):
    """Walks from pixel 0 to `position`, turning round at both ends of an axis of `length` pixels."""
    if length == 1:
        return 0
    index, direction = 0, 1
    for _ in range(abs(position)):  # The mirrored axis is symmetric about pixel 0.
        if not 0 <= index + direction < length:
            direction = -direction
        index += direction
    return index


def mirror_window(images, top, left, height, width):
    """The window of [N, H, W, C] whose upper left pixel is (top, left), mirrored where it lies outside."""
    n, rows, columns, channels = images.shape
    window = np.zeros([n, height, width, channels])
    for y in range(height):
        for x in range(width):
            window[:, y, x] = images[:, mirror_index(top + y, rows), mirror_index(left + x, columns)]
    return window


def conv2d(images, weight, bias=None, padding="same"):
    """Every output pixel is the sum of the products of the filter and the pixels under it."""
    images = np.asarray(images, np.float64)
    height, width = weight.shape[:2]
    if padding == "same":
        # TensorFlow's rule for filters with even sides: the odd zero stands at the far side.
        before, after = ((height - 1) // 2, (width - 1) // 2), (height // 2, width // 2)
        images = np.pad(images, [(0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0)])
    n, rows, columns, _ = images.shape
    outputs = np.zeros([n, rows - height + 1, columns - width + 1, weight.shape[3]])
    for y in range(outputs.shape[1]):
        for x in range(outputs.shape[2]):
            for i in range(height):
                for j in range(width):
                    outputs[:, y, x] += images[:, y + i, x + j] @ weight[i, j]
    return outputs if bias is None else outputs + bias


def conv2d_transpose(images, weight, bias=None, stride=2):
    """Every input pixel paints the filter [k, k, out, in], scaled by its value, onto a larger canvas.

    What a filter larger than the stride paints beyond H * stride is cut off, evenly at both sides, the
    odd pixel at the far side.
    """
    n, rows, columns, _ = images.shape
    height, width, out_channels, _ = weight.shape
    canvas = np.zeros([n, rows * stride + height, columns * stride + width, out_channels])
    for y in range(rows):
        for x in range(columns):
            for i in range(height):
                for j in range(width):
                    canvas[:, y * stride + i, x * stride + j] += images[:, y, x] @ weight[i, j].T
    top, left = max(height - stride, 0) // 2, max(width - stride, 0) // 2
    outputs = canvas[:, top : top + rows * stride, left : left + columns * stride]
    return outputs if bias is None else outputs + bias


def max_pool2d(images, size=2):
    """The largest value of each size x size square; rows and columns that fill no square are dropped."""
    n, rows, columns, channels = images.shape
    outputs = np.zeros([n, rows // size, columns // size, channels])
    for y in range(rows // size):
        for x in range(columns // size):
            outputs[:, y, x] = images[:, y * size : (y + 1) * size, x * size : (x + 1) * size].max(axis=(1, 2))
    return outputs


def batch_moments(images):
    """Mean and biased variance of each channel, by hand."""
    channels = images.shape[-1]
    mean, variance = np.zeros(channels), np.zeros(channels)
    for c in range(channels):
        values = [float(value) for value in images[..., c].ravel()]
        mean[c] = sum(values) / len(values)
        variance[c] = sum((value - mean[c]) ** 2 for value in values) / len(values)
    return mean, variance


def normalize(images, mean, variance, gamma, beta, epsilon=1e-3):
    """gamma * (images - mean) / sqrt(variance + epsilon) + beta."""
    return gamma * (images - mean) / np.sqrt(variance + epsilon) + beta


def elu(images):
    """x above 0, exp(x) - 1 below."""
    return np.where(images > 0, images, np.exp(np.minimum(images, 0)) - 1)


def relu(images):
    """x above 0, 0 below."""
    return np.where(images > 0, images, 0.0)


def center_crop(images, height, width):
    """The middle of [N, H, W, C]; of an odd rest, the larger half is cut off at the far side."""
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]


def crop_and_concat(skip, images):
    """The middle of the skip in the first channels, the images in the others."""
    return np.concatenate([center_crop(skip, *images.shape[1:3]), images], axis=-1)


def unet(config, weights, images, *, training=False, moments=None):
    """Logits of a whole U-Net without dropout.

    Args:
        config: a `ModelConfig`, read for its numbers only.
        weights: {'encoder/level_1/conv_1/weight': array, ...}.
        images: [N, H, W, in_channels].
        training: whether batch normalization uses the batch's own statistics.
        moments: a dictionary that receives {'encoder/level_1/batch_normalization_1': (mean, variance), ...}.

    Returns:
        [N, H', W', classes]
    """
    weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    activation = {"elu": elu, "relu": relu}[config.activation]

    def block(features, scope):
        for i in range(1, config.convolutions_per_block + 1):
            conv, norm = f"{scope}/conv_{i}", f"{scope}/batch_normalization_{i}"
            features = conv2d(features, weights[f"{conv}/weight"], weights.get(f"{conv}/bias"), config.padding)
            if config.batch_normalization:
                mean, variance = weights[f"{norm}/moving_mean"], weights[f"{norm}/moving_variance"]
                if training:
                    mean, variance = batch_moments(features)
                if moments is not None:
                    moments[norm] = mean, variance
                features = normalize(features, mean, variance, weights[f"{norm}/gamma"], weights[f"{norm}/beta"])
            features = activation(features)
        return features

    height, width = images.shape[1:3]
    features = np.asarray(images, np.float64)
    if config.padding == "same":
        multiple = 2 ** (config.depth - 1)
        padded = [-(-side // multiple) * multiple for side in (height, width)]
        features = mirror_window(features, -((padded[0] - height) // 2), -((padded[1] - width) // 2), *padded)
    skips = {}
    for level in range(1, config.depth):
        skips[level] = block(features, f"encoder/level_{level}")
        features = max_pool2d(skips[level])
    features = block(features, "bottleneck")
    for level in range(config.depth - 1, 0, -1):
        scope = f"decoder/level_{level}"
        features = conv2d_transpose(features, weights[f"{scope}/up/weight"], weights[f"{scope}/up/bias"])
        features = block(crop_and_concat(skips[level], features), scope)
    logits = conv2d(features, weights["output/weight"], weights["output/bias"])
    return center_crop(logits, height, width) if config.padding == "same" else logits


def numerical_gradient(function, array, delta=1e-5):
    """The slope of the scalar `function(array)` along each entry of a float64 array, by central differences."""
    gradient = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[index] += delta
        below[index] -= delta
        gradient[index] = (float(function(above)) - float(function(below))) / (2 * delta)
    return gradient


def components(mask):
    """4-connected components by flooding."""
    numbers = np.zeros(mask.shape, int)
    for start in np.argwhere(mask):
        if numbers[tuple(start)]:
            continue
        number, stack = numbers.max() + 1, [tuple(start)]
        while stack:
            y, x = stack.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not numbers[y, x]:
                numbers[y, x] = number
                stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return numbers


def dice_at(label, probabilities, threshold):
    """Dice of the pixels that are labelled, by sets of pixels: label [H, W] and probabilities [H, W, 1]."""
    counts = label != 255
    found = set(np.flatnonzero(counts & (probabilities[..., 0] >= np.float32(threshold))))
    true = set(np.flatnonzero(counts & (label == 1)))
    return 2 * len(found & true) / (len(found) + len(true)) if found or true else 1.0
