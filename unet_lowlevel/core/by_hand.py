"""The equations as plain loops: slow, short, and on their own. `demonstration.py` holds the ops of the book to them."""

import math

import numpy as np
import tensorflow as tf


def conv2d(images, weight, bias):
    n, height, width, _ = images.shape
    size, _, _, out = weight.shape
    outputs = np.zeros([n, height, width, out]) + bias
    for y, x, i, j in np.ndindex(height, width, size, size):
        row, column = y + i - size // 2, x + j - size // 2
        if 0 <= row < height and 0 <= column < width:  # outside are zeros
            outputs[:, y, x] += images[:, row, column] @ weight[i, j]
    return outputs


def conv2d_transpose(images, weight, bias):
    n, height, width, _ = images.shape
    size, _, out, _ = weight.shape  # the size is also the stride
    outputs = np.zeros([n, size * height, size * width, out]) + bias
    for y, x, i, j in np.ndindex(height, width, size, size):
        painted = images[:, y, x] @ weight[i, j].T
        outputs[:, size * y + i, size * x + j] += painted
    return outputs


def max_pool2d(images):
    n, height, width, channels = images.shape
    outputs = np.zeros([n, height // 2, width // 2, channels])
    for y, x in np.ndindex(height // 2, width // 2):
        square = images[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        outputs[:, y, x] = square.max((1, 2))
    return outputs


def batch_normalization(images, gamma, beta):
    outputs = np.zeros(images.shape)
    for c in range(images.shape[3]):
        values = images[..., c]
        mean = sum(values.ravel()) / values.size
        variance = sum((values.ravel() - mean) ** 2) / values.size
        normal = (values - mean) / math.sqrt(variance + 1e-3)
        outputs[..., c] = gamma[c] * normal + beta[c]
    return outputs


def elu(images):
    outputs = np.zeros(images.shape)
    for place, x in np.ndenumerate(images):
        outputs[place] = x if x > 0 else math.exp(x) - 1
    return outputs


def relu(images):
    outputs = np.zeros(images.shape)
    for place, x in np.ndenumerate(images):
        outputs[place] = x if x > 0 else 0
    return outputs


def dropout(images, rate, seed):
    outputs = np.zeros(images.shape)
    random = tf.random.stateless_uniform(images.shape, seed[:2]).numpy()
    for place, x in np.ndenumerate(images):
        outputs[place] = x / (1 - rate) if random[place] >= rate else 0
    return outputs


def crop_and_concat(skip, images):
    n, height, width, channels = images.shape
    top, left = (skip.shape[1] - height) // 2, (skip.shape[2] - width) // 2
    outputs = np.zeros([n, height, width, skip.shape[3] + channels])
    for y, x in np.ndindex(height, width):
        both = [skip[:, top + y, left + x], images[:, y, x]]
        outputs[:, y, x] = np.concatenate(both, axis=-1)
    return outputs


def mirror_crop(images, top, left, height, width):
    def mirrored(position, length):
        while not 0 <= position < length:  # turn round at the end
            end = 0 if position < 0 else length - 1
            position = 2 * end - position
        return position

    n, rows, columns, channels = images.shape
    outputs = np.zeros([n, height, width, channels])
    for y, x in np.ndindex(height, width):
        row, column = mirrored(top + y, rows), mirrored(left + x, columns)
        outputs[:, y, x] = images[:, row, column]
    return outputs


def masked_mean(values, mask):
    total = count = 0.0
    for place, counts in np.ndenumerate(mask):
        if counts:
            total, count = total + values[place], count + 1
    return total / count


def he_normal(fan_in):
    return 0.0, math.sqrt(2.0 / fan_in)


def dice(labels, logits):
    overlap = areas = 0.0
    for place, g in np.ndenumerate(labels):  # of one image
        p = 1 / (1 + math.exp(-logits[place][0]))
        overlap, areas = overlap + p * g, areas + p + g
    return 1 - (2 * overlap + 1) / (areas + 1)


def cross_entropy(labels, logits):
    total = 0.0
    for place, g in np.ndenumerate(labels):
        p = 1 / (1 + math.exp(-logits[place][0]))
        total -= math.log(p if g == 1 else 1 - p)
    return total / labels.size


def adam_update(weight, gradient, first, second, step, learning_rate):
    moved, firsts, seconds = np.zeros([3, weight.size])
    rate = learning_rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    for i in range(weight.size):
        firsts[i] = 0.9 * first[i] + 0.1 * gradient[i]
        seconds[i] = 0.999 * second[i] + 0.001 * gradient[i] ** 2
        root = math.sqrt(seconds[i])
        moved[i] = weight[i] - rate * firsts[i] / (root + 1e-7)
    return moved, firsts, seconds


def sgd_update(weight, gradient, velocity, rate, momentum, nesterov):
    moved, velocities = np.zeros([2, weight.size])
    for i in range(weight.size):
        velocities[i] = momentum * velocity[i] - rate * gradient[i]
        step = velocities[i]
        if nesterov:
            step = momentum * velocities[i] - rate * gradient[i]
        moved[i] = weight[i] + step
    return moved, velocities
