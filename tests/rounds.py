"""A corpus-wide step without the mill around it."""

import numpy as np


def one_round(step, emitted, buckets, rows):
    """What is settled from records that meet in some buckets."""
    records = {name: np.concatenate([each[name] for each in emitted]) for name in emitted[0]}
    met = []
    for bucket in range(buckets):
        mine = records["key"] % np.uint64(buckets) == bucket
        met.append(step.meet({name: values[mine] for name, values in records.items()}))
    return step.settle(met, rows)
