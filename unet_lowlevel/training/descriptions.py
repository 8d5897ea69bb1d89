"""What TensorBoard says of each curve, and which curves stand together on its page of custom scalars."""

from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent

# Shown beside a curve: what it is, what is healthy, and what to do if it is not.
DESCRIPTIONS = {
    "epoch/loss": "The mean loss of an image. Both curves fall; where that of the validation rises while that of the "
    "training falls, the network learns by heart: more data, larger random changes, or --dropout-rate.",
    "epoch/dice": "The Dice of all pixels, the mean over the foreground classes, at the threshold of the run: 1 is "
    "perfect, 0 finds nothing. By that of the validation the best epoch is chosen.",
    "epoch/iou": "The intersection over union at the same threshold, Dice / (2 - Dice) of one class: the same order of "
    "networks in smaller numbers.",
    "epoch/mean_iou": "IoU of foreground and background, averaged over the thresholds 0.5, 0.55, ... 0.95: the "
    "score of the 2019 project. It is often above 0.4 without any foreground; the best epoch is chosen by the Dice.",
    "epoch/precision": "Of the foreground that was found, the share that is right; the mean over the classes. Where it "
    "is far below the recall, the network finds too much: the threshold is chosen at the end, or set by --threshold.",
    "epoch/recall": "Of the foreground that there is, the share that was found; the mean over the classes. Where it is "
    "far below the precision, the network misses much.",
    "step/loss": "The loss of the batch of each step: a rough curve, whose trend counts. Where it jumps up and stays, "
    "lower --learning-rate or set --clip-norm 1.",
    "step/learning_rate": "The learning rate of each step: the schedule as it was meant. It jumps where a training was "
    "resumed with other --epochs.",
    "step/gradient_norm": "The length of the gradient of each step, before clipping. Ten times the usual now and then "
    "is what --clip-norm is for; near 0 from the start, nothing is learned: look at masks and --learning-rate.",
    "training/learning_rate": "The learning rate of the last step of an epoch.",
    "training/gradient_norm": "The length of the gradient in the last step of an epoch, before clipping.",
    "training/weight_norm": "The length of all weights. It grows slowly and levels off; where it keeps growing, try "
    "--weight-decay.",
    "training/images_per_second": "Images a second in the training steps of an epoch. Where it falls, something else "
    "runs on the machine, or its memory is full.",
    "best/dice": "The Dice of the validation images in the epoch whose weights are kept, for comparisons of runs.",
    "best/iou": "The intersection over union of the validation images in the epoch whose weights are kept.",
    "best/loss": "The loss of the validation images in the epoch whose weights are kept.",
    "best/epoch": "The epoch whose weights are kept. If it is the last, longer training may help: --epochs.",
}
# Of the curves that each level has; "encoder_1/dead_units" is one.
OF_LEVELS = {
    "gradient_norm": "The length of the gradient of the level's weights in the last step of an epoch, before clipping. "
    "The levels lie within a factor of about a hundred. Where one is near 0, it does not learn.",
    "update_to_weight": "How far the last step of an epoch moved the level's weights, relative to their length. About "
    "0.001 is healthy; at 0.1 lower --learning-rate, at 0.00001 it hardly learns.",
    "activation_mean": "The mean of the level's activations, after ELU or ReLU. It settles in the first epochs.",
    "activation_deviation": "The standard deviation of the level's activations. Batch normalization keeps it near 1; "
    "without it, a curve that grows from level to level warns of divergence.",
    "dead_units": "The share of the level's channels that no pixel gets a gradient through (a slope below 0.05 "
    "everywhere). Near 0 is healthy; where it grows, lower --learning-rate, or --activation elu.",
}
# Of what is more than a number, by the tag up to its first slash.
OF_GROUPS = {
    "precision_recall": "Precision and recall of the validation images at the thresholds 0, 0.025, ... 1. The further "
    "to the upper right, the better.",
    "pictures": "A validation image and its truth; below, the probability and the errors: blue missed, red found too "
    "much, yellow another class; gray has no label. After 0, 1, 2, 4, 8, ... epochs and the last.",
    "feature_maps": "Of each level, the channels that vary most over a validation image, each in its own scale.",
    "receptive_field": "The square of a validation image that one pixel of each level depends on.",
}
LEVELS = r"(encoder_\d+|bottleneck|decoder_\d+|output)"


def described(tag: str) -> str | None:
    """The sentences on a curve or a picture."""
    place, _, name = tag.partition("/")
    return DESCRIPTIONS.get(tag) or OF_LEVELS.get(name) or OF_GROUPS.get(place)


def overview() -> Layout:
    """The first charts to look at, and the levels of the network side by side."""
    pages = {
        "Overview": {
            "Loss": "epoch/loss",
            "Dice": "epoch/dice",
            "Loss of each step": "step/loss",
            "Learning rate": "step/learning_rate",
            "Gradient norm": "step/gradient_norm",
        },
        "Levels": {
            "Gradient norm": f"{LEVELS}/gradient_norm",
            "Update to weight": f"{LEVELS}/update_to_weight",
            "Dead units": f"{LEVELS}/dead_units",
            "Standard deviation of activations": f"{LEVELS}/activation_deviation",
        },
    }
    return Layout(
        category=[
            Category(
                title=page,
                chart=[Chart(title=title, multiline=MultilineChartContent(tag=[tag])) for title, tag in charts.items()],
            )
            for page, charts in pages.items()
        ]
    )
