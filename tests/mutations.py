"""The mutations that `mutate.py` makes: {module of the package: [(what goes wrong, text, its replacement, tests)]}.

A text occurs exactly once in its module. Tests are files or single tests below `tests/`, those of a file as `::test_a`
for the file that mirrors the module; without any, that file as a whole. The quicker a test, the better.
"""

LOSSES = "core/test_losses.py"
DROPOUT = "core/test_step.py::test_dropout_changes_from_step_to_step_and_from_seed_to_seed"
FORMS = "core/test_fast.py::test_ten_steps_of_training_by_the_fast_forms_are_those_of_the_book"
PREDICTOR = "inference/test_predictor.py::test_probabilities_are_the_mean_of_the_runs"
WHOLE_IMAGE = "inference/test_tiling.py::test_tiles_give_the_logits_of_the_whole_image"
SIGNAL = "training/test_interruption.py::test_a_signal_saves_and_ends"
NAN = "test_nan_becomes_0_where_nothing_is_marked"
THRESHOLD = "inference/test_best_thresholds.py"
EXPORTED = "export/test_forms.py"
SAME_FORM = f"{EXPORTED}::test_a_form_predicts_what_the_run_does"
SAME_BATCH = f"{EXPORTED}::test_a_batch_gives_what_its_images_give"
RESUMED = "training/test_interruption.py::test_an_interrupted_training_goes_on_bit_for_bit"

MUTATIONS: dict[str, list[tuple[str, ...]]] = {
    "core/accumulation.py": [
        ("parts count alike", "summed(last - first) / everywhere", "1 / parts"),
        ("parts drop the same", "before_part = before + first", "before_part = before"),
        ("the last part is the batch", "tf.nest.map_structure(tf.add, total, found)", "found"),
    ],
    "core/loss_scale.py": [
        ("the factor stays in the gradient", "gradient / scale for", "gradient for"),
        ("a step that overflows moves the weights", "tf.where(finite, gradient, 0.0)", "gradient"),
        ("an overflow doubles the factor", "1.0), 0.5)", "1.0), 2.0)"),
        ("an overflow does not start the count anew", "tf.where(finite & ~enough,", "tf.where(~enough,"),
    ],
    "core/ops/activations.py": [
        ("ELU is scaled", "tf.nn.elu(images)", "tf.nn.selu(images)"),
    ],
    "core/ops/batch_normalization.py": [
        ("averages lag", "MOMENTUM = 0.9 ", "MOMENTUM = 0.99 "),
        ("a smaller epsilon", "EPSILON = 1e-3", "EPSILON = 1e-5"),
        (
            "the variance is divided by n - 1",
            "mean_of(tf.square(images - mean), [0, 1, 2])",
            "tf.reduce_sum(tf.square(images - mean), [0, 1, 2]) / tf.cast(tf.size(images[..., 0]) - 1, images.dtype)",
        ),
        ("the root has no epsilon", "tf.math.rsqrt(variance + epsilon)", "tf.math.rsqrt(variance)"),
        (
            "a prediction uses the statistics of its batch",
            "return normalize(images, self.moving_mean, self.moving_variance,",
            "return normalize(images, *batch_moments(images),",
        ),
        (
            "training uses the averages",
            "return normalize(images, mean, variance, self.gamma",
            "return normalize(images, self.moving_mean, self.moving_variance, self.gamma",
        ),
        (
            "averages stay",
            "        self.move_averages(mean, variance)\n",
            "",
        ),
        (
            "averages move the wrong share",
            "(1.0 - MOMENTUM) * (self.moving_variance",
            "MOMENTUM * (self.moving_variance",
        ),
        (
            "statistics are computed in bfloat16",
            "batch_moments(tf.cast(images, self.gamma.dtype), self.mean_of)",
            "(tf.cast(moment, self.gamma.dtype) for moment in batch_moments(images))",
        ),
    ],
    "core/ops/convolution.py": [
        ("every second pixel", "strides=1", "strides=2"),
        ("always padded", "padding=padding.upper()", 'padding="SAME"'),
        ("no bias", "tf.nn.bias_add(outputs, tf.cast(bias, images.dtype))", "outputs"),
        (
            "the filter is flipped",
            "tf.nn.conv2d(images, tf.cast(weight, images.dtype)",
            "tf.nn.conv2d(images, tf.cast(weight[::-1, ::-1], images.dtype)",
        ),
        (
            "the fan-in does not count the filter's pixels",
            "weight_variable(shape, kernel_size**2 * in_channels, seed)",
            "weight_variable(shape, in_channels, seed)",
            "::test_module_owns_its_variables core/ops/test_initializers.py",
        ),
        ("a bias before batch normalization", "if use_bias else None", "", "::test_module_without_bias"),
    ],
    "core/ops/cropping.py": [
        ("the mirror repeats the border", "position, period - position)", "position, period - position - 1)"),
        ("one pixel beside the middle", "images)[1] - height) // 2", "images)[1] - height + 1) // 2"),
        (
            "the skip comes last",
            "tf.concat([crop_like(skip, images), images], axis=-1)",
            "tf.concat([images, crop_like(skip, images)], axis=-1)",
        ),
        ("all is added at the far side", "-((padded_height - height) // 2), -((padded_width - width) // 2)", "0, 0"),
    ],
    "core/ops/dropout.py": [
        ("what stays is not enlarged", "images / (1.0 - rate)", "images"),
        ("the others are dropped", ">= rate", "< rate"),
        ("whole channels are dropped", "tf.shape(images), seed", "tf.shape(images[:, :1, :1]), seed"),
        ("the seed does not matter", "tf.shape(images), seed", "tf.shape(images), [0, 0]"),
    ],
    "core/ops/initializers.py": [
        ("half the variance", "2.0 / fan_in", "1.0 / fan_in"),
        ("all weights draw from one stream", 'f"{tf.get_current_name_scope()}/weight"', '"weight"'),
        ("the seed does not matter", "fan_in, (seed, stream)", "fan_in, (0, stream)"),
        ("biases start at 1", "tf.zeros([channels])", "tf.ones([channels])"),
    ],
    "core/ops/pooling.py": [
        ("the mean", "tf.nn.max_pool2d(", "tf.nn.avg_pool2d("),
        ("one pixel at a time", "strides=size", "strides=1"),
    ],
    "core/ops/transposed_convolution.py": [
        ("no bias", "outputs + tf.cast(bias, images.dtype)", "outputs"),
        ("the filter is flipped", "tf.cast(weight, images.dtype), shape", "tf.cast(weight[::-1], images.dtype), shape"),
        (
            "the fan-in counts the filter's pixels",
            "out_channels, in_channels], in_channels, seed",
            "out_channels, in_channels], kernel_size**2 * in_channels, seed",
            "::test_module_owns_its_variables core/ops/test_initializers.py",
        ),
    ],
    "core/losses.py": [
        ("Dice without smoothing above", "2.0 * overlap + smooth, areas", "2.0 * overlap, areas"),
        ("Dice with squares", "areas = tf.reduce_sum(p, [1, 2])", "areas = tf.reduce_sum(p * p, [1, 2])"),
        (
            "Dice of each image over all",
            "overlap = tf.reduce_sum(p * g, [1, 2])",
            "overlap = tf.reduce_sum(p * g, [0, 1, 2])",
        ),
        ("Dice of the background, too", "[..., 1:], tf.nn.softmax(logits)[..., 1:]", ", tf.nn.softmax(logits)"),
        (
            "cross-entropy without weights",
            "pixel_weights(labels, class_weights, weight_map) * pixel_cross_entropy",
            "pixel_cross_entropy",
        ),
        ("class weights give way to the map", "else weights * weight_map", "else weight_map"),
        ("the sum ignores smooth", "regions = dice(labels, logits, smooth=smooth,", "regions = dice(labels, logits,"),
        ("the sum is a mean", "regions + cross_entropy(", "regions + 0.5 * cross_entropy("),
    ],
    "core/more_losses.py": [
        ("generalized Dice by area", "tf.math.divide_no_nan(1.0, tf.square(area))", "1.0 / area", LOSSES),
        (
            "absent classes do not count in generalized Dice",
            "tf.where(area > 0, weight, tf.reduce_max(weight, -1, keepdims=True))",
            "weight",
            LOSSES,
        ),
        ("pixels without a label are background", "labelled=tf.cast(labelled, tf.float32)", "labelled=None", LOSSES),
        ("focal loss with gamma 2", "tf.pow(wrong, gamma)", "tf.pow(wrong, 2.0)", LOSSES),
        ("focal loss without weights", "pixel_weights(labels, class_weights, weight_map) * tf.pow", "tf.pow", LOSSES),
        (
            "alpha and beta are exchanged",
            "alpha * false_positives + beta * false_negatives",
            "beta * false_positives + alpha * false_negatives",
            LOSSES,
        ),
        ("batch_dice is dice", '"batch_dice": (batch_dice', '"batch_dice": (dice', LOSSES),
        (
            "the focal gamma of the settings is lost",
            'class_weights | {"gamma": config.focal_gamma}',
            "class_weights",
            LOSSES,
        ),
    ],
    "core/optimizers.py": [
        ("Adam's first moment is not corrected", " / (1.0 - tf.pow(beta_1, step))", ""),
        (
            "Adam's second moment is not corrected",
            "learning_rate * tf.sqrt(1.0 - tf.pow(beta_2, step))",
            "learning_rate",
        ),
        ("epsilon under the root", "tf.sqrt(second) + epsilon", "tf.sqrt(second + epsilon)"),
        ("beta_2 is 0.99", "0.9, 0.999, 1e-7", "0.9, 0.99, 1e-7"),
        ("Adam counts from 2", "tf.cast(step, tf.float32) + 1.0", "tf.cast(step, tf.float32) + 2.0"),
        (
            "the momentum is a mean",
            "velocity = momentum * velocity - learning_rate * gradient",
            "velocity = momentum * velocity - (1.0 - momentum) * learning_rate * gradient",
        ),
        (
            "no Nesterov",
            "(momentum * velocity - learning_rate * gradient if nesterov else velocity), velocity",
            "velocity, velocity",
        ),
        ("the schedule ends a step late", "max(total_steps - 1 - warmup, 1.0)", "max(total_steps - warmup, 1.0)"),
        ("half a cosine", "tf.cos(math.pi * x)", "tf.cos(0.5 * math.pi * x)"),
        ("the warm-up starts at 0", "(step + 1.0) / warmup", "step / warmup"),
        ("the schedule is not delayed by the warm-up", "(step - warmup) / max(", "step / max("),
        ("biases decay", "weight.shape.rank > 1", "weight.shape.rank > 0"),
        ("decay is not scaled by the rate", "learning_rate * weight_decay * weight)", "weight_decay * weight)"),
        ("small gradients are enlarged", "limit / tf.maximum(norm, limit)", "limit / norm"),
    ],
    "core/moving_average.py": [
        ("the random start stays", "tf.minimum(self.decay, (1.0 + step) / (10.0 + step))", "self.decay"),
        ("the weights are lost to their averages", "variable.assign(value)", "pass"),
    ],
    "core/replicas.py": [
        ("the replicas are not summed", "ReduceOp.SUM", "ReduceOp.MEAN", "training/test_distributed.py"),
        (
            "all replicas drop the same",
            "return tf.reduce_sum(counts[:number], keepdims=True)",
            "return tf.zeros([1], tf.int32)",
            "training/test_distributed.py",
        ),
        ("the numbers of a replica begin late", "values[rest:]", "values[: tf.size(values) - rest]"),
        (
            "statistics of replicas count alike",
            "count = tf.cast(tf.shape(images)[0], tf.float32)",
            "count = tf.ones([])",
            "training/test_distributed.py",
        ),
    ],
    "core/step.py": [
        (
            "the loss is not scaled",
            "self.loss_scale and self.loss_scale.scale",
            "None",
            "core/test_loss_scale.py::test_float16_trains_as_float32_does",
        ),
        (
            "clipped gradients are not applied",
            "self.weights, clipped, step",
            "self.weights, gradients, step",
            "::test_clipped_gradients_move_the_weights_and_the_norm_before_is_told",
        ),
        (
            "the norm is recorded after clipping",
            '"gradient_norm": gradient_norm',
            '"gradient_norm": global_norm(clipped)',
            "::test_clipped_gradients_move_the_weights_and_the_norm_before_is_told",
        ),
        (
            "the next step's rate",
            "learning_rate_at(step, self",
            "learning_rate_at(step + 1, self",
            "::test_every_step_has_its_own_rate_and_tells_it",
        ),
        (
            "the next step's rate is recorded",
            '"learning_rate": learning_rate,',
            '"learning_rate": learning_rate_at(step + 1, self.config.optimizer, self.total_steps),',
            "::test_every_step_has_its_own_rate_and_tells_it",
        ),
        (
            "the optimizer counts one step more",
            "clipped, step, learning_rate)",
            "clipped, step + 1, learning_rate)",
            "::test_the_first_step_of_adam_goes_as_far_as_the_learning_rate",
        ),
        ("dropout drops the same in every step", "tf.cast(self.step, tf.int32)]", "0]", DROPOUT),
        ("dropout does not know the seed", "tf.concat([[self.config.training.seed,", "tf.concat([[0,", DROPOUT),
        ("the network does not train", "training=True, seed=seed", "training=False, seed=seed", DROPOUT),
        (
            "the average follows a step late",
            "            self.optimizer.apply(self.weights, clipped, step, learning_rate)\n"
            "            self.step.assign_add(1)\n"
            "            if self.average:\n"
            "                self.average.update(step)\n",
            "            if self.average:\n"
            "                self.average.update(step)\n"
            "            self.optimizer.apply(self.weights, clipped, step, learning_rate)\n"
            "            self.step.assign_add(1)\n",
            "::test_the_average_follows_the_weights_of_the_same_step",
        ),
        (
            "the average is of trained weights only",
            "list(model.named_variables().values()), decay",
            "self.weights, decay",
            "::test_the_average_follows_the_weights_of_the_same_step",
        ),
        (
            "weight maps do not reach the loss",
            "self.loss(labels, logits, *maps)",
            "self.loss(labels, logits)",
            "::test_weights_say_how_much_a_pixel_counts",
        ),
    ],
    "core/unet.py": [
        (
            "dropout after the last convolution",
            "rates[0] = config.dropout_rate",
            "rates[-1] = config.dropout_rate",
            "::test_dropout_follows_the_first_or_the_last_convolution",
        ),
        ("dropout in every block", "elif deep:", "else:", "::test_dropout_stands_where_the_settings_say"),
        (
            "all blocks drop alike",
            "seed_of_stream(seed, self.stream)",
            "seed",
            "::test_dropout_stands_where_the_settings_say",
        ),
        (
            "channels grow, but do not double",
            "config.base_channels * 2**level",
            "config.base_channels * (level + 1)",
            "::test_channels_double_at_every_level",
        ),
        (
            "the prior is no logit",
            "p[1:] / (1.0 - p[1:])",
            "p[1:]",
            "::test_output_bias_gives_the_prior",
        ),
        (
            "bfloat16 is float32",
            "tf.cast(padded, self.config.precision)",
            "padded",
            "core/test_precision.py::test_logits_are_float32_and_close",
        ),
        (
            "dropout acts in predictions",
            "if training and self.dropout_rates[i]",
            "if self.dropout_rates[i]",
            "::test_dropout_acts_in_training_only_and_is_a_function_of_the_seed",
        ),
    ],
    "core/fast.py": [
        (
            "weights of a prediction are inputs of the graph",
            "tf.cast(variable, self.config.precision).numpy()",
            "tf.cast(variable, self.config.precision)",
            "::test_the_graph_of_the_folded_network_holds_its_weights_and_joins_what_it_can",
        ),
        (
            "the variance of the fused operation",
            "variance * ((n - 1.0) / n)",
            "variance",
            "::test_fused_normalization_is_that_with_the_moments",
        ),
        (
            "folding forgets the scale of the mean",
            "return weight * scale, beta - moving_mean * scale",
            "return weight * scale, beta - moving_mean",
            "::test_one_convolution_and_its_normalization",
        ),
        (
            "folding forgets epsilon",
            "moving_variance + EPSILON)",
            "moving_variance)",
            "::test_one_convolution_and_its_normalization",
        ),
        (
            "Adam in place is not corrected",
            "beta1_power=beta_1_power",
            "beta1_power=0.0",
            "::test_ten_steps_in_place_are_those_of_the_book",
        ),
        (
            "Adam in place counts from 0",
            "tf.cast(step, tf.float32) + 1.0",
            "tf.cast(step, tf.float32) + 1e-3",
            "::test_ten_steps_in_place_are_those_of_the_book",
        ),
        (
            "no Nesterov in place",
            "use_nesterov=self.nesterov",
            "use_nesterov=False",
            "::test_ten_steps_in_place_are_those_of_the_book",
        ),
        (
            "averages move twice with recomputation",
            "if not again:",
            "if True:",
            "::test_a_layer_is_normalized_and_its_averages_move_once",
        ),
        (
            "a bias for each part",
            "conv2d(part, share, None, padding)",
            "conv2d(part, share, bias, padding)",
            "::test_parts_are_convolved_as_if_joined",
        ),
        (
            "a tile sees less than it depends on",
            "// scale - beyond[level], 0)",
            "// scale, 0)",
            "::test_the_core_is_a_crop_of_the_whole",
        ),
        (
            "all blocks drop alike",
            "seed_of_stream(seed, block.stream)",
            "seed",
            "core/test_unet.py::test_dropout_stands_where_the_settings_say",
        ),
        (
            "the slope of ELU is that of ReLU",
            "tf.raw_ops.EluGrad(gradients=",
            "tf.raw_ops.ReluGrad(gradients=",
            "::test_shifted_elu_and_its_gradients_are_those_of_float32_rounded",
        ),
    ],
    "geometry.py": [
        (
            "crops are counted with what a valid network loses",
            "max(config.training.crop_size - valid_margin(config.model), 1)",
            "config.training.crop_size",
            "data/test_pipeline.py::test_large_images_are_drawn_by_their_area",
        ),
        ("less surroundings than it takes", "needed = 2 * needed + lost", "needed = needed + lost", WHOLE_IMAGE),
        (
            "the reach is rounded down",
            "-(-(found[-1] + lost_by_block(config) // 2) // 2)",
            "found[-1] // 2",
            WHOLE_IMAGE,
        ),
        (
            "valid windows begin too far inside",
            "Span(start, stop, start - margin // 2,",
            "Span(start, stop, start,",
            WHOLE_IMAGE,
        ),
        (
            "mirrored at one side only",
            "before = (padded - length) // 2\n    count",
            "before = 0\n    count",
            WHOLE_IMAGE,
        ),
        (
            "a tile's first pixel is not its core's",
            "start + before - low))\n    return found",
            "0))\n    return found",
            WHOLE_IMAGE,
        ),
        (
            "the margin counts the bottleneck twice",
            "2 * (2 ** (config.depth - 1) - 1))",
            "2 * 2 ** (config.depth - 1))",
        ),
    ],
    "data/augmentation.py": [
        ("a window never reaches the last place", "tf.maximum(last - first + 1, 1)", "tf.maximum(last - first, 1)"),
        ("the window begins inside of the margin", "inside = first + tf", "inside = tf"),
        ("flips are rare", "stateless_uniform([4], seed) < 0.5", "stateless_uniform([4], seed) < 0.25"),
        (
            "the mask is not flipped",
            "return tuple(change(pixels) for pixels in (image, label, weights) if pixels is not None)",
            "return tuple(pixels if pixels is label else change(pixels) for pixels in (image, label, "
            "weights) if pixels is not None)",
        ),
        (
            "weights are not flipped",
            "fold_in(seed, 1), weights)\n    return",
            "fold_in(seed, 1)), weights\n    image, masks = image[0], image[1:]\n    return",
        ),
        (
            "flips of one axis are of both",
            'if config.flips and config.flip_axes != "left_right" else no',
            "if config.flips else no",
        ),
        (
            "blur repeats the border",
            "mirror_indices(-radius, size + 2 * radius, size)",
            "tf.clip_by_value(tf.range(-radius, size + radius), 0, size - 1)",
        ),
        ("blur along rows only", "wider[:, k : k + size]", "image"),
        ("blur is twice as wide", "-0.5 * tf.square", "-0.125 * tf.square"),
        ("blur always at full strength", "config.blur * blur, radius", "config.blur, radius"),
        ("blur is cut off early", "int(4.0 * config.blur + 0.5)", "int(config.blur)"),
        ("low resolution takes single pixels", '"area"', '"nearest"'),
        ("low resolution in blocks", '"bilinear"', '"nearest"'),
        (
            "low resolution up to one more",
            "(config.low_resolution - 1.0) * resolution",
            "config.low_resolution * resolution",
        ),
        ("contrast about 0", "mean = tf.reduce_mean(image)", "mean = 0.0"),
        ("gamma is a factor", "tf.pow((image - low) / span, exponent)", "(image - low) / span * exponent"),
        ("gamma of the inverse is that of the image", "-with_gamma(-x,", "with_gamma(x,"),
        ("only brighter", "config.brightness * brightness", "config.brightness * tf.abs(brightness)"),
        ("noise always at full strength", "config.noise * tf.abs(noise)", "config.noise"),
        ("as often as not", "chance < probability", "chance > probability"),
        ("all changes or none", "zip(chances, changes, strict=True)", "zip([chances[0]] * 7, changes, strict=True)"),
        (
            "other draws than before",
            "[4], fold_in(seed, 0), -1.0, 1.0",
            "[4], fold_in(seed, 4), -1.0, 1.0",
            "::test_by_default_not_a_bit_depends_on_what_is_off",
        ),
        (
            "chances by the seed of the strengths",
            "[len(changes)], fold_in(seed, 3)",
            "[len(changes)], fold_in(seed, 0)",
        ),
        (
            "gray values by the seed of the flips",
            "config, fold_in(seed, 2)), *masks",
            "config, fold_in(seed, 1)), *masks",
            "data/test_pipeline.py",
        ),
    ],
    "data/deformation.py": [
        ("masks take the pixel before", "tf.floor(field + 0.5)", "tf.floor(field)"),
        ("all crops or none are deformed", "(shape, seed) < config.deformation_probability", "(shape, seed) < 1.0"),
        ("all deformations of a crop or none", "happens([3], config", "happens([1], config"),
        (
            "which deformations by the seed of their strengths",
            "happens([3], config, fold_in(seed, 0))",
            "happens([3], config, seed)",
            "data/test_augmentation.py::test_no_two_draws_of_a_crop_have_the_same_seed",
        ),
        ("elastic always", "config.elastic * happens([], config, fold_in(seed, 2))", "config.elastic"),
        ("a larger scale is smaller", "[2, 2]) / (1.0 + scale)", "[2, 2]) * (1.0 + scale)"),
        (
            "the middle is half a pixel away",
            "(np.array(crop) - 1).reshape(2, 1) / 2",
            "np.array(crop).reshape(2, 1) / 2",
        ),
        ("the window is not where the field is", "start + tf.cast(first, tf.int32), extent", "start, extent"),
        (
            "rows and columns are exchanged",
            "for t in tf.unstack((field - floor)",
            "for t in tf.unstack((field - floor)[::-1]",
        ),
        ("parabolas beyond the ends are lines", "[3, -3, 1]", "[2, -1, 0]"),
        (
            "affine and elastic are seldom both",
            "grid += elastic",
            "grid = tf.constant(points.reshape(2, -1), tf.float32) + elastic",
        ),
    ],
    "data/foreground.py": [
        ("what nobody has labelled is foreground", "np.setdiff1d(strip, (0, IGNORED))", "np.setdiff1d(strip, (0,))"),
        ("large classes are drawn more often", "squares[int(uniform[0] * len(squares))]", "np.concatenate(squares)"),
        ("the square is in the corner", "(uniform[2:] * max", "(0 * uniform[2:] * max"),
        ("the square may lie in the lost margin", "square + first -", "square -"),
    ],
    "data/pipeline.py": [
        (
            "all crops show foreground",
            "uniform[0] < training.foreground_crops",
            "True",
            "data/test_foreground.py",
        ),
        (
            "TensorFlow tells what is wrong with a sample",
            "raise self.mistake from None",
            "raise",
            "data/test_packed.py::test_a_training_that_meets_a_damaged_shard_ends_with_a_sentence",
        ),
        ("large images are drawn no oftener", "round(crops_in(size, config)) if by_area else 1", "1"),
        ("one order for all epochs", "fold_in([training.seed, 1], self.epoch)", "tf.constant([training.seed, 1])"),
        ("one order for all seeds", "fold_in([training.seed, 1], self.epoch)", "fold_in([0, 1], self.epoch)"),
        ("not shuffled", "tf.random.experimental.stateless_shuffle(everything, fold_in(seed, i))", "everything"),
        (
            "all passes of an epoch alike",
            "stateless_shuffle(everything, fold_in(seed, i))",
            "stateless_shuffle(everything, seed)",
        ),
        (
            "all images of an epoch change alike",
            "fold_in(fold_in([training.seed, 2], self.epoch), position)",
            "fold_in([training.seed, 2], self.epoch)",
        ),
        (
            "images change alike in all epochs",
            "fold_in(fold_in([training.seed, 2], self.epoch), position)",
            "fold_in([training.seed, 2], position)",
        ),
        (
            "images change alike for all seeds",
            "fold_in([training.seed, 2], self.epoch), position",
            "fold_in([0, 2], self.epoch), position",
        ),
        ("all crops at one place", "crop, margin, fold_in(seed, 0))", "crop, margin, [training.seed, 2])"),
        ("all deformations alike", "changes, fold_in(seed, 3))", "changes, [training.seed, 3])"),
        ("deformations by the seed of the crop", "changes, fold_in(seed, 3))", "changes, fold_in(seed, 0))"),
        (
            "gray values and flips by the seed of order",
            "changes, seed, *weights)",
            "changes, [training.seed, 1], *weights)",
        ),
        (
            "the border is repeated beyond the image",
            "mirror_indices(start[i], extent[i], size[i])",
            "tf.clip_by_value(start[i] + tf.range(extent[i]), 0, size[i] - 1)",
        ),
        (
            "the batches before are not skipped",
            "tf.range(self.first, self.images_per_epoch)",
            "tf.range(self.images_per_epoch)",
            SIGNAL,
        ),
        (
            "classes are not balanced",
            "tf.gather(balance, label) + weights[0]",
            "weights[0]",
            "data/test_weight_maps.py::test_each_sample_has_its_map_and_batches_the_whole_equation",
        ),
        (
            "the last batch is dropped",
            "[share(self.batch_size)]))",
            "[share(self.batch_size)]), drop_remainder=True)",
        ),
        ("tuned, and waited for", "autotune.enabled = False", "autotune.enabled = True"),
        ("crops up to 512", "sizes)), LARGEST_CROP)", "sizes)), 2 * LARGEST_CROP)"),
    ],
    "data/resolution.py": [
        ("sizes are cut off", "round(side * data.resolution)) for", "int(side * data.resolution)) for"),
        (
            "a pixel takes its neighbours in part as whole ones",
            "np.diff(edges).astype(np.float64)",
            "np.ones(len(edges) - 1)",
        ),
        ("the highest class wins among equals", "[area > most[rows]]", "[area >= most[rows]]"),
        (
            "objects are taken from the corner of a pixel",
            "(2 * np.arange(working) + 1) * length",
            "2 * np.arange(working) * length",
        ),
        (
            "enlarged by the corners of pixels",
            "(np.arange(length) + 0.5) * working / length - 0.5",
            "np.arange(length) * working / length",
        ),
        (
            "the farther pixel weighs more",
            "[low + 1 - places, places - low]",
            "[places - low, low + 1 - places]",
        ),
    ],
    "data/formats/records.py": [
        ("differences of floats are rounded", 'name == "image" and dtype.kind == "u"', 'name == "image"'),
        ("any amount is decompressed", "math.prod(shape) * dtype.itemsize)", "0)"),
    ],
    "data/packed.py": [
        (
            "a damaged record is read",
            "if zlib.crc32(framed) == self.crc32:",
            "if framed:",
            "::test_a_damaged_shard_is_named",
        ),
        (
            "names of strangers lead to other folders",
            r'or set(stem) & {*"/\\"}',
            "or False",
            "::test_an_index_of_a_stranger_is_refused",
        ),
        (
            "weight maps of other settings do as well",
            "self.weight_map == (loss.weight_map_w0, loss.weight_map_sigma)",
            "self.weight_map is not None",
            "data/test_packing.py::test_a_weight_map_is_packed_if_it_is_asked_for",
        ),
        (
            "--resolution is forgotten",
            " and not data.resizes and",
            " and",
            "::test_samples_are_those_of_the_files",
        ),
        (
            "what is given gives way to what was packed",
            "if not same and name in (config.given if given is None else given):",
            "if False:",
            "::test_settings_of_packing_need_not_be_given_again",
        ),
        (
            "settings of packing have to be given again",
            "return settings.apply(config, taken)",
            "return config",
            "::test_settings_of_packing_need_not_be_given_again",
        ),
        (
            "a shard may be too short",
            "(there := size_of(beside(packed.folder, name))) != size",
            "(there := size_of(beside(packed.folder, name))) is None",
            "::test_shards_that_are_missing_or_too_short_are_told_at_once",
        ),
        (
            "an image of any size is decoded",
            "if pixels > max_megapixels * 1e6:",
            "if False:",
            "::test_a_record_of_other_classes_or_too_many_pixels_is_refused",
        ),
    ],
    "data/packing.py": [
        (
            "a shard that nothing is known of counts as finished",
            'if not (output / f"{name}.json").is_file()}',
            "if not (output / name).is_file()}",
            "::test_a_killed_packing_goes_on_to_the_same_bytes",
        ),
        (
            "a packing goes on with other settings",
            "if before != note:",
            "if not before:",
            "::test_another_packing_does_not_go_on",
        ),
        (
            "images are looked for behind the head of their record",
            '{"offset": offset,',
            '{"offset": offset + BEFORE,',
            "data/test_packed.py::test_samples_are_those_of_the_files",
        ),
    ],
    "data/storage.py": [
        (
            "packed weight maps are forgotten",
            "*ARRAYS[2:4] * config.loss.weight_map]",
            "*ARRAYS[2:4] * 0]",
            "data/test_packed.py::test_samples_are_those_of_the_files",
        ),
        (
            "packed samples have another normalization",
            '{"standard": record.standard,',
            '{"standard": record.minmax,',
            "data/test_packed.py::test_samples_are_those_of_the_files",
        ),
        (
            "a shrunk sample forgets the label as stored",
            "for part, array in arrays(sample).items()}",
            "for part, array in arrays(sample).items() if part != 'original_label'}",
        ),
        (
            "the data are other data at another resolution",
            "add_to(digest, sample.image, sample.label)",
            "add_to(digest, *at_working_size(sample, config.data).labels)",
        ),
        (
            "objects of weight maps are not resized",
            "resized_numbers(read_instances(pair, sample.truth, config), sample.size)",
            "read_instances(pair, sample.truth, config)[: sample.size[0], : sample.size[1]]",
            "data/test_resolution.py",
        ),
    ],
    "data/check/findings.py": [
        (
            "packed data has to fit into the memory",
            "data = 0 if stays else decoded_bytes",
            "data = 0 if evidence.config.data.stream else decoded_bytes",
            "data/test_packed.py::test_packed_data_need_not_fit_into_the_memory",
        ),
        (
            "crops are chosen for the images as stored",
            "[working_size(m.size, config.data)",
            "[m.size",
            "data/check/test_check.py::test_costs",
        ),
        (
            "resized images take the bytes of those as stored",
            "if (height, width) == image.size else",
            "if height else",
            "data/check/test_check.py::test_costs",
        ),
    ],
    "data/samples.py": [
        (
            "NaN is 0 wherever it is",
            "read_image(pair.image, config.data, label)",
            "read_image(pair.image, config.data)",
            "::test_nan_is_refused_only_where_something_is_marked",
        ),
        (
            "the variance instead of its root",
            "math.sqrt(pairwise_sum(pixels, lambda x: (x - mean) ** 2) / pixels.size)",
            "pairwise_sum(pixels, lambda x: (x - mean) ** 2) / pixels.size",
        ),
        (
            "a crop is normalized by itself",
            "parts = self.normalization(self.image[place])",
            "parts = normalization(self.image[place], DataConfig())(self.image[place])",
        ),
        ("nothing is clipped", "np.clip(x, 0.0, 1.0, out=x)", "pass"),
        (
            "borders between objects are not learned",
            "(self.label if target is None else target)[place]",
            "self.label[place]",
            "data/test_weight_maps.py::test_instance_labels_say_what_the_objects_are",
        ),
    ],
    "data/files.py": [
        ("NaN in what is marked becomes 0", "missing &= ~marked", "missing &= ~marked | True", "::" + NAN),
        ("what is not labelled is marked", "(label > 0) & (label != IGNORED)", "label > 0", "::" + NAN),
    ],
    "data/masks.py": [
        (
            "a packed label has any class",
            "    if strange:",
            "    if False:",
            "data/test_packed.py::test_a_record_of_other_classes_or_too_many_pixels_is_refused",
        ),
        (
            "stray values are of the next class above",
            "named[np.abs(values[:, np.newaxis] - named).argmin(1)]",
            "named[np.searchsorted(named, values)]",
        ),
        ("any number of stray pixels is taken", "counts[unknown].sum() > STRAY * pixels.size", "False"),
        ("only what all masks have", "np.maximum(label, part, out=label)", "np.minimum(label, part, out=label)"),
        (
            "foreground and background are exchanged",
            "return (pixels != 0).astype(np.uint8)",
            "return (pixels == 0).astype(np.uint8)",
        ),
        ("BGR", "red << 16 | green << 8 | blue", "blue << 16 | green << 8 | red"),
        (
            "values in their order are the classes",
            "np.array([classes_of[value] for value in nearest.tolist()], np.uint8)[inverse]",
            "inverse.astype(np.uint8)",
        ),
    ],
    "data/instances.py": [
        (
            "objects touch at corners",
            "connectivity=1",
            "connectivity=2",
            "data/test_weight_maps.py inference/test_separation.py::test_evaluation_and_written_instances_agree",
        ),
    ],
    "data/weight_maps.py": [
        ("squares of the distances", "(first + second) ** 2", "(first**2 + second**2)"),
        ("a narrower sigma", "np.float32(2 * sigma**2)", "np.float32(sigma**2)"),
        ("weight inside of objects", "np.where(instances == 0, weights, np.float32(0))", "weights"),
        ("absent classes take part", "np.count_nonzero(occurs) * frequencies", "frequencies.size * frequencies"),
        ("borders between classes", "touch &= label[here] == label[there]", "pass"),
        ("borders between rows only", "((0, 1), (1, 0))", "((1, 0),)"),
        ("a border at one side", "border[there] |= touch", "pass"),
        (
            "the second nearest object is the nearest",
            "np.minimum(farther, np.maximum(nearer, distance), out=farther)",
            "np.minimum(farther, distance, out=farther)",
        ),
    ],
    "data/splits.py": [
        (
            "held-out images are scored whatever is said",
            "wanted = set(split[part])",
            'wanted = set(split["validation"])',
            "inference/test_evaluation.py::test_splits",
        ),
        (
            "groups are torn",
            "groups.setdefault(matched_group(stem, data.group_regex, (known or {}).get(stem)), [])",
            "groups.setdefault(stem, [])",
        ),
        ("the seed does not matter", "np.random.Philox(seed)", "np.random.Philox(0)"),
        ("small groups are dealt first", "key=lambda name: -len(groups[name])", "key=lambda name: len(groups[name])"),
        ("always the first fold", "return folds[data.fold]", "return folds[0]"),
        ("always the first block", "data.folds)[data.fold].tolist()", "data.folds)[0].tolist()"),
        ("rounding adds an image", "images - 1e-9), 1)", "images), 1)"),
        ("the fraction is rounded down", "math.ceil(data.validation_fraction", "math.floor(data.validation_fraction"),
        (
            "sides are exchanged",
            "return sorted(set(stems) - held_out), sorted(held_out)",
            "return sorted(held_out), sorted(set(stems) - held_out)",
        ),
    ],
    "scoring/counts.py": [
        ("on the threshold is below it", "probabilities[..., 0] >= threshold", "probabilities[..., 0] > threshold"),
        (
            "IoU without the overlap taken off",
            "ratio(hit, predicted + true - hit, absent)",
            "ratio(hit, predicted + true, absent)",
        ),
        ("Dice of one overlap", "ratio(2 * hit, predicted + true", "ratio(hit, predicted + true"),
        ("precision is recall", "ratio(hit, predicted, absent)", "ratio(hit, true, absent)"),
        ("the background counts", "values[..., 1:].mean(-1)", "values.mean(-1)"),
        ("thresholds up to 0.86", "0.5 + 0.05 * i", "0.5 + 0.04 * i"),
        ("what is absent scores 0", "np.where(predicted + true > 0, 0.0, 1.0)", "0.0 * true"),
        ("the threshold is 0.5 whatever is said", "table[:, 0, thresholds.index(threshold)]", "table[:, 0, 0]"),
        (
            "truth and prediction are exchanged",
            "(image * classes + labels) * classes + predictions",
            "(image * classes + predictions) * classes + labels",
        ),
    ],
    "scoring/curves.py": [
        ("ties count whole", "lower + negative / 2", "lower + negative"),
        ("soft Dice without squares", "np.square(p).sum(dtype=np.float64)", "p.sum(dtype=np.float64)"),
        (
            "classes that are not known count as 0",
            "weights = np.where(np.isnan(values), 0.0, weights)",
            "weights = weights + 0.0 * np.nan_to_num(values)",
        ),
        ("bins too wide to tell sure networks apart", "LOGIT = 18.0", "LOGIT = 4.0"),
        (
            "precision of what is below the cut",
            "np.cumsum(histograms[..., ::-1], -1)[..., ::-1]",
            "np.cumsum(histograms, -1)",
        ),
    ],
    "scoring/intervals.py": [
        (
            "the best images are the worst",
            'np.argsort(per_image["dice"], kind="stable")[:WORST]',
            'np.argsort(-per_image["dice"], kind="stable")[:WORST]',
            "export/test_export.py::test_the_card_has_the_scores_that_evaluate_gives",
        ),
    ],
    "scoring/surfaces.py": [
        (
            "the 90th percentile",
            "np.percentile(forth, 95), np.percentile(back, 95)",
            "np.percentile(forth, 90), np.percentile(back, 90)",
        ),
        ("the farthest", "np.percentile(forth, 95), np.percentile(back, 95)", "forth.max(), back.max()"),
        ("one direction only", "max(np.percentile(forth, 95), np.percentile(back, 95))", "np.percentile(forth, 95)"),
        ("the mean of one direction", "np.concatenate([forth, back]).mean()", "forth.mean()"),
        ("a missed object costs nothing", "(float(np.hypot(*truth.shape)),) * 2", "(0.0,) * 2"),
        ("distances to all of the mask", "mask & ~binary_erosion(mask) for mask", "mask for mask"),
    ],
    "scoring/boundaries.py": [
        (
            "cells touch at corners",
            "found = label(prediction, connectivity=1)",
            "found = label(prediction, connectivity=2)",
        ),
        ("the middle cut", "means.min(-1), means.max(-1)", "means[..., 4], means[..., 4]"),
        ("every error splits or merges", "np.bincount(pairs[:, 0]) > 1", "np.bincount(pairs[:, 0]) > 0"),
        ("boundaries shrink before they grow", "for value in (False, True)", "for value in (True, False)"),
        ("pixels between cells are one cell", "cells.max() + 1 + np.arange(np.count_nonzero(none))", "cells.max() + 1"),
    ],
    "scoring/objects.py": [
        ("on the threshold is below it", "iou >= s]", "iou > s]"),
        (
            "an object matches twice",
            "return np.count_nonzero(maximum_bipartite_matching(graph) >= 0)",
            "return graph.nnz",
        ),
        ("missed objects are free", "total = counts.sum(-1)", "total = counts[..., :2].sum(-1)"),
        ("objects match in any class", "(true[pairs[0]] == k) & (predicted[pairs[1]] == k)", "true[pairs[0]] == k"),
        (
            "the smallest is left out",
            "self.areas >= max(smallest, 1)",
            "self.areas > max(smallest, 1)",
            "inference/test_separation.py",
        ),
        ("classes without objects score 1", "np.maximum(total, 1), np.nan)", "np.maximum(total, 1), 1.0)"),
    ],
    "export/litert.py": [
        (
            "a mean of 8 bits",
            "denylisted_ops=IN_FLOAT32",
            "denylisted_ops=[]",
            f"{EXPORTED}::test_8_bits_hardly_change_the_masks_of_a_trained_network",
        ),
    ],
    "export/model_card.py": [
        (
            "scores are of other views",
            "if not average else None",
            "if True else None",
            "export/test_export.py::test_the_card_has_the_scores_that_evaluate_gives",
        ),
    ],
    "inference/model_card.py": [
        (
            "scores stay when the weights are others",
            "return card if same else None",
            "return card",
            "::test_a_card_of_other_weights_or_another_threshold_is_none",
        ),
    ],
    "export/onnx_file.py": [
        (
            "views are not turned back",
            "turned_back(graph, probabilities(",
            "turned(graph, probabilities(",
            SAME_FORM,
        ),
        ("the threshold stays here", "np.float32(config.training.decision_threshold)", "np.float32(0.5)", SAME_FORM),
        (
            "mirrored at one side only",
            'graph.add("Sub", padded, side), [2])',
            'graph.add("Sub", padded, side), [1])',
            SAME_FORM,
        ),
        (
            "the whole batch is normalized as one",
            "DOUBLE), [1, 2, 3], config.data",
            "DOUBLE), [0, 1, 2, 3], config.data",
            SAME_BATCH,
        ),
    ],
    "export/parity.py": [
        (
            "masks may differ",
            "else differing <= DIFFERENT",
            "else True",
            "export/test_export.py::test_masks_of_few_bits_must_agree",
        ),
    ],
    "export/saved_model.py": [
        (
            "a window has statistics of its own",
            "- shift) / scale",
            "- tf.reduce_mean(tf.cast(window, tf.float64))) / scale",
            f"{EXPORTED}::test_windows_of_a_large_image_give_what_the_whole_gives",
        ),
    ],
    "export/whole.py": [
        (
            "views are not turned back",
            "turned_back(self.network(turned(normalized, view)), view)",
            "turned(self.network(turned(normalized, view)), view)",
            f"{EXPORTED}::test_views_are_averaged_within",
        ),
        ("the whole batch is normalized as one", "axes = [1, 2, 3]", "axes = [0, 1, 2, 3]", SAME_BATCH),
        ("shares do not add up", "/ tf.cast(length, dtype)", "/ tf.cast(working, dtype)", SAME_FORM),
    ],
    "inference/tiling.py": [
        (
            "the tile begins with its core",
            "computed[rows.inside : rows.inside + rows.stop - rows.start]",
            "computed[: rows.stop - rows.start]",
        ),
        (
            "rows of the window are shifted",
            "seen[rows - top]",
            "seen[rows - top - 1]",
            "::test_windows_are_mirrored_like_a_padded_image",
        ),
    ],
    "inference/views.py": [
        (
            "views that no training has shown",
            "return not flip.exchanged and flip.upside_down <= up_down",
            "return flip.upside_down <= up_down",
        ),
        ("turns without flips are all views", "% 2 == 0", "% 2 >= 0"),
        (
            "flipped predictions are not turned back",
            "        found = self._reversed(found)\n",
            "",
            "::test_flips_of_a_part_and_back",
        ),
        (
            "no transposed views",
            "itertools.product((False, True), repeat=3)",
            "itertools.product((False,), *[(False, True)] * 2)",
            "::test_flips_are_the_eight_symmetries_of_the_square",
        ),
        (
            "the border is repeated beyond the image",
            'mode="mirror"',
            'mode="nearest"',
            "::test_rotations_agree_with_scikit_image",
        ),
        ("beyond the image is nothing", 'mode="mirror"', 'mode="constant"', "::test_rotations_agree_with_scikit_image"),
        (
            "turned the other way",
            "np.array([[cos, -sin], [sin, cos]])",
            "np.array([[cos, sin], [-sin, cos]])",
            "::test_rotations_agree_with_scikit_image",
        ),
    ],
    "inference/folds.py": [
        (
            "folds score the shrunk labels",
            "pair, sample.truth, probabilities",
            "pair, sample.label, probabilities",
            "inference/test_cross_validation.py::test_held_out_images_are_predicted_and_scored_as_stored",
        ),
    ],
    "inference/compiled_network.py": [
        (
            "a tile is normalized by itself",
            "tf.constant(normalize(window)",
            "tf.constant(np.float32((window - window.mean()) / window.std())",
            "inference/test_folders.py::test_large_images_give_the_same_masks "
            "inference/test_tiling.py::test_any_part_has_the_probabilities_of_the_whole_image",
        ),
    ],
    "inference/predictor.py": [
        ("a run is seen in one view", '("flips" if configs', '("none" if configs', "inference/test_views.py"),
        (
            "threads lower the tile size one after another",
            "if self.tile_size >= side and not",
            "if not",
            "inference/test_memory.py::test_what_another_thread_has_lowered_is_not_lowered_again",
        ),
        (
            "resolutions weigh the same, however many networks they have",
            "np.average(parts, 0, numbers)",
            "np.average(parts, 0)",
            "::test_networks_of_several_sizes_are_averaged_at_the_size_of_the_image",
        ),
        (
            "all networks work at the size of the first",
            "image.shape[:2], network.data)",
            "image.shape[:2], self.config.data)",
            "::test_networks_of_several_sizes_are_averaged_at_the_size_of_the_image",
        ),
        (
            "no signal is heard before an image is enlarged",
            "                yield slice(0, 0), slice(0, 0), tile[:0, :0]\n",
            "",
            "::test_a_shrunk_image_in_tiles_has_the_same_probabilities",
        ),
        (
            "the sum of the networks",
            "np.float32(len(networks) * len(self.views))",
            "np.float32(len(self.views))",
            PREDICTOR,
        ),
        (
            "the sum of the views",
            "np.float32(len(networks) * len(self.views))",
            "np.float32(len(networks))",
            "inference/test_views.py::test_average_over_flips_is_the_mean_of_turned_predictions",
        ),
        ("all networks normalize as the first", "its_normalize, *view.part", "normalize[0], *view.part", PREDICTOR),
        (
            "the threshold is 0.5 whatever is said",
            "threshold = self.config.training.decision_threshold",
            "threshold = 0.5",
            "::test_threshold_of_the_run_decides",
        ),
        ("what was chosen is not applied", "if not config.training.threshold:", "if False:", THRESHOLD),
        ("what was given is not applied", "if not config.training.threshold:", "if True:", THRESHOLD),
        (
            "the weights are those of an untrained network",
            "restore_best(model, run)",
            "pass",
            "inference/test_evaluation.py::test_evaluation_agrees_with_the_training_and_with_the_written_masks",
        ),
        (
            "any run's held-out images are held out",
            "set.intersection(*",
            "set.union(*",
            "::test_held_out_is_what_no_run_has_seen",
        ),
    ],
    "inference/collection.py": [
        ("handfuls without end", "or size > room:", "or False:", "::test_handfuls_are_small_but_not_too_many"),
        (
            "a lost worker's images are taken up together",
            "[[images] for images in handful] if lost else [handful]",
            "[handful]",
            "::test_an_image_that_ends_every_worker_is_given_up_and_the_others_are_done",
        ),
        (
            "what is there is written again",
            "return (self.folder / name).is_file()",
            "return False",
            "::test_what_a_lost_worker_has_written_is_not_written_again",
        ),
        (
            "what a lost worker wrote last stands in no note",
            "        self.note.wrote(name)\n        return",
            "        return",
            "::test_what_a_lost_worker_has_written_is_not_written_again",
        ),
        (
            "a full disk is no reason to stop",
            'if report["stopped"]:',
            "if False:",
            "::test_a_worker_that_cannot_write_ends_the_prediction",
        ),
        (
            "what belongs to no object is not counted",
            'outputs.lost += report["in_no_object"]',
            "outputs.lost += 0",
            "::test_workers_report_what_belongs_to_no_object",
        ),
    ],
    "inference/images.py": [
        ("slices of a volume apart", "(image.path, image.series) if isinstance(image, Slice) else stem", "stem"),
        ("the order of the images counts", "dict(sorted(images.items()))", "images"),
        ("shards overlap", "[shard.index :: shard.count]", "[shard.index :]"),
    ],
    "inference/unfinished.py": [
        ("a mask that was cut off is finished", " and checksum(path) == digest", ""),
        ("a mask of another network is finished", "return same and path.is_file()", "return path.is_file()"),
        ("what somebody changed is removed", 'if self.files.get(name, ("",))[0] == checksum(path):', "if True:"),
        ("other images, other shards", 'SHARDS = ("shards", "collection")', 'SHARDS = ("shards",)'),
        ("a line goes on where another was cut off", '"\\n" if path.is_file() and path.stat().st_size else ""', '""'),
        ("the whole does not wait for shards", "*notes_in(output, shard)}:", "*()}:"),
    ],
    "inference/threshold.py": [
        ("one image moves the threshold", "error + 1e-9", "0.9 * error"),
        ("the best is taken, noise or not", "worse.mean(0) <= error + 1e-9", "worse.mean(0) <= 1e-9"),
        ("the deviation is divided by n", "worse.std(0, ddof=1)", "worse.std(0)"),
        ("the lowest of the good", "(abs(t - MIDDLE), -mean[t])", "t"),
        ("of two as near the worse", "-mean[t])", "mean[t])"),
        ("pixels without a label count", "found, IGNORED, CANDIDATES", "found, None, CANDIDATES"),
        ("the Dice of the background", '["dice"][..., 1]', '["dice"][..., 0]'),
    ],
    "inference/best_thresholds.py": [
        (
            "a given threshold is chosen anew",
            "config.model.classes == 1 and not config.training.threshold",
            "config.model.classes == 1",
        ),
        ("only some images choose the threshold", "if not mask and pixels >= PIXELS", "if pixels >= PIXELS"),
        ("objects are chosen by all images", "if objects and pixels < PIXELS:", "if objects:"),
    ],
    "inference/evaluation.py": [
        (
            "other images renew the card",
            'split == "validation" and not average',
            "not average",
            "inference/test_model_card.py::test_an_evaluation_renews_it",
        ),
    ],
    "training/train.py": [
        (
            "resumed from Python, planned epochs are the default ones",
            "config.given.intersection(CHANGES_ON_RESUME)",
            "CHANGES_ON_RESUME",
        ),
        (
            "a training that finds nothing chooses thresholds",
            " and not nothing_found(trainer):",
            ":",
            "::test_a_network_that_finds_no_foreground_is_no_result",
        ),
        (
            "one batch chooses thresholds",
            "if not config.training.overfit_one_batch and not nothing_found(trainer):",
            "if not nothing_found(trainer):",
            "::test_learning_one_batch_goes_on_with_the_same_config",
        ),
    ],
    "inference/measurements.py": [
        (
            "pixels are a side twice",
            '2"] = area * high * wide',
            '2"] = area * high * high',
            "::test_pixels_that_are_no_squares_have_an_area_and_no_perimeter",
        ),
        (
            "the last row is not the border",
            'found["max_row"] == height',
            'found["max_row"] == height - 1',
            "::test_measures_are_those_of_a_loop_over_pixels",
        ),
        (
            "objects are measured as others of their image",
            'columns = {"object": found.pop("object"), "class": classes,',
            'columns = {"object": found.pop("object"), "class": classes[::-1],',
            "::test_measures_are_those_of_a_loop_over_pixels",
        ),
        (
            "the volume counts more than the flag",
            "    if pixel_size:\n",
            "    if pixel_size and not isinstance(source, Slice):\n",
            "::test_volumes_are_measured_in_millimetres",
        ),
        (
            "tables are not made anew",
            "        (folder / name).unlink(missing_ok=True)\n",
            "        if (folder / name).exists():\n            return\n",
            "::test_mended_images_come_to_their_place",
        ),
        (
            "slices share their objects",
            'rows[row.get("slice", "")].append',
            'rows["0" if "slice" in row else ""].append',
            "::test_volumes_are_measured_in_millimetres",
        ),
    ],
    "inference/coco.py": [
        ("images are numbered anew in each file", 'one["image_id"] + len(images)', 'one["image_id"]'),
        ("holes are cut at their lower edge", "hole[:, 1].min() - corner[1]", "hole[:, 1].max() - corner[1]"),
    ],
    "inference/outlines.py": [
        ("rings come to a corner twice", "for turned in (d - 1, d, d + 1)", "for turned in (d + 1, d, d - 1)"),
        ("an object has one piece", "enumerate(one.pieces, start=1)", "enumerate(one.pieces[:1], start=1)"),
        ("slices are counted from 0", "one.slice + 1", "one.slice"),
        ("a place in the box is one in the image", "box[1].start, box[0].start", "0, 0"),
    ],
    "inference/separation.py": [
        ("on the threshold is below it", "mask = probability >= threshold", "mask = probability > threshold"),
        (
            "objects grow without end",
            "above(probability, how.threshold, how.neck)",
            "above(probability, 0.0, how.neck)",
        ),
        ("necks twice as wide", "reconstruction(inside - neck,", "reconstruction(inside - 2 * neck,"),
        ("seeds join at corners", "return label(core, connectivity=1)", "return label(core, connectivity=2)"),
        ("holes stay", "binary_fill_holes(mask) if neck else mask", "mask"),
        ("objects grow from low to high", "watershed(-probability,", "watershed(probability,"),
        (
            "small objects count in the choice",
            "np.where(areas >= one.smallest_object, found.classes, 0)",
            "found.classes",
        ),
        ("borders are given back once", "for _ in range(2):\n        pixels", "for _ in range(1):\n        pixels"),
        ("objects grow into any gap", "(others > 0) & (others != own[:, np.newaxis])", "(others >= 0)"),
        ("outlines do not matter", 'average_precision(count)["ap"]', 'average_precision(count)["ap_50"]'),
        ("one step is the search", "tried = [how, *(", "tried = [Separation(), *("),
        ("widths are radii", "widths.append(2 * ", "widths.append("),
        (
            "probabilities of another class grow",
            "np.where(greatest == k, probabilities[..., k], 0)",
            "probabilities[..., k]",
        ),
    ],
    "training/distributed.py": [
        ("the last share ends early", "replica // self.count", "replica // (self.count + 1)"),
        (
            "one who wants to stop is not heard",
            '"stop": summed(stop)',
            '"stop": stop',
            "::test_a_signal_to_any_worker_stops_all_and_any_number_goes_on",
        ),
    ],
    "training/drawings.py": [
        ("feature maps of the dullest channels", 'direction="DESCENDING"', 'direction="ASCENDING"'),
        ("touching objects of the truth are one", "if sample.target is not None and", "if sample.target is None and"),
        (
            "receptive fields after the pooling",
            "fields.append(receptive_field(path))",
            "fields.append(2 * receptive_field(path))",
        ),
    ],
    "training/graphs.py": [
        ("variables are named like placeholders", "variables[id(outer)] for outer", "inner.op.name for outer"),
        ("updates are left out", "*(node.name for node in nodes if node.op.startswith(CHANGES))", ""),
        ("nodes stay without a place", "rename(nodes, names_in_places(nodes))", "names_in_places(nodes)"),
    ],
    "training/levels.py": [
        (
            "a level is its last weight",
            "levels.setdefault(place_of(name), []).append(tensor)",
            "levels[place_of(name)] = [tensor]",
        ),
        ("updates beside the weights after them", "lengths = norms(names, before)", "lengths = norms(names, after)"),
        (
            "what is below 0 is dead",
            "np.where(highest > 0, 1.0, below * (highest + 1.0))",
            "np.where(highest > 0, 1.0, below)",
        ),
    ],
    "training/steps.py": [
        (
            "the validation counts the labels of the shrunk image",
            "probability_counts(truth, p,",
            "probability_counts(tf.image.resize(labels[..., tf.newaxis], tf.shape(truth)[1:], 'nearest')[..., 0], p,",
        ),
        (
            "training scores without the threshold",
            "logits, config.training.decision_threshold, ignored)",
            "logits, 0.5, ignored)",
            "training/test_steps.py",
        ),
        (
            "validation scores without the threshold",
            "p, training.decision_threshold,",
            "p, 0.5,",
            "training/test_steps.py",
        ),
        (
            "a valid network is not shown the surroundings",
            "before = -valid_margin(model.config) // 2",
            "before = 0",
            "core/test_unet.py::test_whole_gives_every_pixel_of_a_valid_network "
            "core/test_unet.py::test_whole_equals_the_plain_valid_output_inside",
        ),
        (
            "the book is trained by fast forms",
            "optimizers.make_optimizer if config.model.plain else ",
            "",
            "core/test_step.py::test_plain_training_learns_and_has_the_losses_of_the_fast_one",
        ),
    ],
    "training/totals.py": [
        ("the loss is not weighted by images", 'float(result["loss"]) * images', 'float(result["loss"])'),
        ("only the first image counts", 'np.asarray(result["confusion"]).sum(0)', 'np.asarray(result["confusion"])[0]'),
    ],
    "training/profiling.py": [
        (
            "a profile too early to end is lost",
            "if self.number > SKIPPED and self.steps",
            "if self.number > 99 and self.steps",
        ),
    ],
    "training/summaries.py": [
        (
            "precision is recall",
            'scores["precision"][:, 1], scores["recall"]',
            'scores["recall"][:, 1], scores["recall"]',
        ),
        ("the rarer class has larger shares", "row / max(row.sum(), 1)", "row / max(confusion.sum(), 1)"),
        (
            "the best scores are those of the training",
            'row[f"validation_{name}"] for name in BEST',
            'row[f"train_{name}"] for name in BEST',
        ),
        (
            "pictures on their sides",
            "str(picture.shape[1]).encode(), str(picture.shape[0]).encode()",
            "str(picture.shape[0]).encode(), str(picture.shape[1]).encode()",
        ),
    ],
    "training/trainer.py": [
        (
            "the update is that of the whole epoch",
            "if totals.steps == self.batches.steps_per_epoch - 1",
            "if totals.steps == 0",
            "training/test_levels.py",
        ),
        (
            "enlarged probabilities need no memory",
            "needed += 4 * config.model.classes * largest.original_label.size",
            "pass",
            "inference/test_memory.py::test_enlarged_probabilities_need_memory_too",
        ),
        (
            "a smaller last batch counts as a full one",
            "totals.add(result, images)",
            "totals.add(result, self.config.training.batch_size)",
            "::test_a_smaller_last_batch_counts_by_its_images",
        ),
        (
            "weights are validated, not their averages",
            "average.in_place() if average else contextlib.nullcontext()",
            "contextlib.nullcontext()",
            "::test_average_of_the_weights_is_validated_and_kept_as_best",
        ),
        (
            "the schedule ends with the first epoch",
            "config.training.epochs * self.batches.steps_per_epoch",
            "self.batches.steps_per_epoch",
            "::test_seed_and_length_of_the_training_reach_network_and_schedule",
        ),
        (
            "the seed does not reach the network",
            "network(config.model, seed=config.training.seed)",
            "network(config.model, seed=0)",
            "::test_seed_and_length_of_the_training_reach_network_and_schedule",
        ),
        (
            "a resumed epoch takes its first batches twice",
            "self.batches.of_epoch(epoch, totals.steps)",
            "self.batches.of_epoch(epoch)",
            SIGNAL,
        ),
    ],
    "training/journal.py": [
        (
            "the last of equals is the best",
            "scores[-1] > max(",
            "scores[-1] >= max(",
            "training/test_trainer.py::test_early_stopping_waits_for_its_patience",
        ),
        (
            "patience lasts an epoch more",
            "int(self.progress.best_epoch) >= patience",
            "int(self.progress.best_epoch) > patience",
            "training/test_trainer.py::test_early_stopping_waits_for_its_patience",
        ),
        ("the sums of an unfinished epoch are lost", "assign(self.totals.to_json())", 'assign("")', SIGNAL),
    ],
    "training/history.py": [
        (
            "a lucky epoch is the best",
            "statistics.median(dice[max(0, e - 2) : e + 1])",
            "dice[e]",
            "::test_the_best_epoch_has_the_best_median_of_three",
        ),
    ],
    "training/checkpoints.py": [
        (
            "the step begins anew",
            "optimizer=memory.optimizer, step=memory.step, **average",
            "optimizer=memory.optimizer, **average",
            "training/test_train.py::test_more_epochs_extend_a_finished_training",
        ),
        (
            "the optimizer forgets",
            "optimizer=memory.optimizer, step=memory.step, **average",
            "step=memory.step, **average",
            "training/test_train.py::test_more_epochs_extend_a_finished_training",
        ),
        (
            "the averages begin anew",
            'average = {"average": memory.average} if memory.average else {}',
            "average = {}",
            RESUMED,
        ),
        ("moving statistics are not restored", "model=places_of(model), memory", "memory", RESUMED),
    ],
    "reference/keras_trainer.py": [
        (
            "the validation's scores are of the shrunk labels",
            "y = y[1]\n",
            "y = y[0]\n",
            "::test_every_setting_trains_alike",
        ),
        (
            "training scores without the threshold",
            "Scores(config.model.classes, config.training.decision_threshold,",
            "Scores(config.model.classes, 0.5,",
            "::test_histories_are_the_same_up_to_rounding",
        ),
    ],
    "reference/keras_whole.py": [
        ("views are not turned back", "return turned_back(ops", "return turned(ops", SAME_FORM),
    ],
    "settings.py": [
        (
            "two settings say how large images are",
            "given=given | SIZES if given & SIZES else given",
            "given=given",
            "planning/test_plan.py training/test_initial_weights.py",
        ),
    ],
    "planning/plan.py": [
        ("objects that touch are seen in one view", "if hard(found) or config.loss.weight_map:", "if hard(found):"),
        (
            "hard objects are seen in one view",
            'yield Choice("average_flips", True',
            'yield Choice("average_flips", False',
        ),
        ("images of any size are drawn alike", "if large >= UNEQUAL * small:", "if False:"),
        ("rare classes are left to chance", "if share < SEEN:", "if False:"),
        ("a crop has to hold an object whole", "length + kind.extent[1] /", "length - kind.extent[1] /"),
        ("their place tells nothing", "max(kind.contrast, kind.place)", "kind.contrast"),
        ("the best Dice chooses where objects touch", 'yield Choice("keep", "last",', 'yield Choice("keep", "best",'),
        ("what is given is planned over", "if choice.setting not in given:", "if True:"),
        ("thin classes are lost", "max(LARGEST_CROP / extent, THINNEST / thickness)", "LARGEST_CROP / extent"),
        ("the background may be lost", "for kind in found.classes if kind.images)", "for kind in found.foreground)"),
        (
            "crops are those of the stored images",
            "side = max(sizes(found, config)[1])",
            "side = max(found.height[1], found.width[1])",
        ),
        (
            "images that show the same keep their sizes",
            "if found.layout.common >= COMMON and side",
            "if False and side",
        ),
        ("small images for all", "SMALL_IMAGE if hard(found) else LARGEST_CROP", "SMALL_IMAGE"),
        ("thin classes are lost in small images", "LARGEST_CROP, THINNEST / thickness * longer)", "LARGEST_CROP, 0)"),
        ("a bottleneck of any size", "while depth > 1 and crop <", "while False and crop <"),
        ("a common layout is no matter", "free = hard(found) or layout.common", "free = True or layout.common"),
        ("hard objects are mirrored as others", "free = hard(found) or layout.common", "free = layout.common"),
        ("turned where it must not be", "left_right and up_down and turned, reason", "left_right and up_down, reason"),
        ("given epochs are cut", 'if "epochs" in config.given or', "if"),
        ("the validation takes no time", "(seconds - epochs * speed.validation) / speed.step", "seconds / speed.step"),
        ("a training of any length", "if count * cost > OPERATIONS:", "if False:"),
        ("all objects are to be separated", "if found.touching and found.touching > TOUCHING:", "if True:"),
    ],
    "planning/fingerprint.py": [
        (
            "specks count like any object",
            "np.cumsum(weights[order]) / weights.sum()",
            "np.arange(1, 1 + values.size) / values.size",
        ),
        (
            "an image tells its own place",
            "(places.sum(0, dtype=np.int32) - places)",
            "(places.sum(0, dtype=np.int32) + 0 * places)",
        ),
        (
            "what fills an image has a place",
            "(max(dice) - everywhere) / max(1 - everywhere, 1e-9)",
            "max(dice)",
        ),
        ("what is common is biased", "(count * length - 1) / (count - 1)", "length"),
        (
            "background objects touch, too",
            "for k, shapes in m.shapes.items() if k)",
            "for k, shapes in m.shapes.items())",
        ),
    ],
    "planning/before_training.py": [
        (
            "the speed is never measured",
            "return bool(self.config.training.minutes) and",
            "return False and",
            "training/test_train.py::test_a_planned_training_keeps_what_is_given_and_can_be_repeated",
        ),
    ],
    "data/check/likeness.py": [
        ("30 % of inverted masks hide each other", "MORE_LIKE_THE_OTHERS = 2", "MORE_LIKE_THE_OTHERS = 4"),
    ],
    "data/check/shapes.py": [
        ("thickness is the mean distance", "step * 4 * float", "step * float"),
        ("unlabelled pixels have a class", "np.unique(label[label != IGNORED])", "np.unique(label)"),
        ("any class is a neighbour", "np.flatnonzero(others > NEIGHBOUR * others.sum())", "np.flatnonzero(others)"),
        ("instance labels are not looked at", "if objects is not None and index:", "if False:"),
    ],
}
