"""How far sketches are from the truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from contract.sketches import histogram, hll
from contract.sketches.hash import hash_texts
from serving.database import connect
from tests.bench.place import Place
from tests.bench.report import Row
from tests.bench.rounds import Spread

_SETS = 1_000
_LARGEST_SET = 100_000
_FRACTIONS = (0.5, 0.9, 0.95, 0.99)
_SEED = 11


def accuracy(place: Place, rounds: int) -> Iterator[Row]:
    """The error of distinct counts and percentiles of 1,000 seeded sets, as SQL answers.

    Sizes are spread evenly over the logarithm from 10 on. `rounds` plays no part, since nothing here takes time.
    """
    del rounds
    place.say(f"estimating {_SETS:,} sets")
    rng = np.random.default_rng(_SEED)
    sizes = np.exp(rng.uniform(np.log(10), np.log(_LARGEST_SET), _SETS)).astype(int)
    distinct_errors, quantile_errors = [], []
    with connect(place.stack.settings, "reader") as reader:
        for number, size in enumerate(sizes.tolist()):
            sketch = hll.encode(hll.entries_of(hash_texts(f"{number}:{one}" for one in range(size))))
            values = np.sort(rng.lognormal(3.5, 0.8, size))
            packed = histogram.encode(histogram.entries_of(values))
            estimate, *percentiles = (
                reader.execute(
                    f"SELECT distinct_count(%s::bytea::hll), {', '.join(['approx_percentile(%s, %s)'] * len(_FRACTIONS))}",
                    [sketch, *(item for fraction in _FRACTIONS for item in (fraction, packed.tolist()))],
                ).fetchone()
                or ()
            )
            distinct_errors.append(estimate / size - 1)
            for fraction, answer in zip(_FRACTIONS, percentiles, strict=True):
                exact = values[max(1, int(np.ceil(fraction * size))) - 1]
                quantile_errors.append(abs(answer / exact - 1))
    rms = float(np.sqrt(np.mean(np.square(distinct_errors)))) / hll.STANDARD_ERROR
    yield Row("distinct, RMS error", Spread.of([rms]), "x 1.04/√m", "<= 1.05", rms <= 1.05)
    worst = 100 * float(max(quantile_errors))
    yield Row("percentile, worst error", Spread.of([worst]), "%", "<= 1.2", worst <= 1.2)
