"""Replicas: copies of the network that share a batch, each on a device of its own.

A replica sees some images of the batch, and computes with them. What depends on all images is a sum over the replicas:
the loss, its gradient, and the statistics of batch normalization. A replica that is alone is its own sum.
"""

import tensorflow as tf


def alone() -> bool:
    """Whether all images of the batch are here: there is one replica, or this is not a training step."""
    context = tf.distribute.get_replica_context()
    return context is None or context.num_replicas_in_sync == 1


def summed(values):
    """values of replica 0 + values of replica 1 + ..., the same on all of them.

    The gradient with respect to the values of a replica is the sum of the gradients that reach the sum anywhere.

    Args:
        values: a tensor, or a list of them; of the same shape on all replicas.
    """
    if alone():
        return values
    values = tf.nest.map_structure(tf.identity, values)  # what is passed in from outside has no device yet
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def images_before(images: tf.Tensor) -> tf.Tensor:
    """How many images of the batch the replicas before this one see; int32 [1].

    Args:
        images: those of this replica, [N, ...].
    """
    if alone():
        return tf.zeros([1], tf.int32)
    context = tf.distribute.get_replica_context()
    number = tf.convert_to_tensor(context.replica_id_in_sync_group)
    counts = summed(tf.one_hot(number, context.num_replicas_in_sync, dtype=tf.int32) * tf.shape(images)[0])
    return tf.reduce_sum(counts[:number], keepdims=True)


def mean_of_batch(values: tf.Tensor, axes: list[int]) -> tf.Tensor:
    """tf.reduce_mean(values, axes) over the values of all replicas, which may have different numbers of images."""
    if alone():
        return tf.reduce_mean(values, axes)
    sums = tf.reduce_sum(values, axes)
    sums, count = summed([sums, tf.cast(tf.size(values) // tf.size(sums), values.dtype)])
    return sums / count


def average_variables(variables: list[tf.Variable], images: tf.Tensor) -> None:
    """Gives each of the variables its mean over the replicas, each replica weighted by the number of its images.

    Args:
        variables: float32, of which each replica has moved its own.
        images: those of this replica, [N, ...].
    """
    if alone():
        return
    count = tf.cast(tf.shape(images)[0], tf.float32)
    *sums, total = summed([*(count * variable for variable in variables), count])
    for variable, value in zip(variables, sums, strict=True):
        variable.assign(value / total)


def uniform_of_batch(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Random numbers for some images of a batch: their own, as if the whole batch were here.

    output = tf.random.stateless_uniform([seed[2] + shape[0], *shape[1:]], seed[:2])[seed[2]:]

    What is cut off is not computed: the generator, Philox, counts up, and gives four numbers at each count.

    Args:
        shape: int32 [4], of the images of this replica.
        seed: int32 [3]; the third number is how many images of the batch come before these.

    Returns:
        float32, 0 or more, below 1.

    Reference: Salmon et al. 2011, section 2.2 (a random number is a function of the counter).
    """
    before = tf.cast(seed[2], tf.int64) * tf.reduce_prod(tf.cast(shape[1:], tf.int64))
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed[:2])
    counter = tf.stack([counter[0] + tf.cast(before // 4, tf.uint64), counter[1]])
    rest = tf.cast(before % 4, tf.int32)
    length = tf.reshape(rest + tf.reduce_prod(shape), [1])
    philox = tf.random.Algorithm.PHILOX.value
    values = tf.raw_ops.StatelessRandomUniformV2(shape=length, key=key, counter=counter, alg=philox)
    return tf.reshape(values[rest:], shape)
