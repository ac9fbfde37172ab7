"""Windows by pooling are those of scipy.ndimage."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

from bida.physics.windows import all_around, any_around, mean_around

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(3, 9, 12), (1, 7, 7), (2, 4, 40)])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_they_are_those_of_scipy(shape, size):
    stack = RNG.normal(100, 20, shape).astype(np.float32)
    where, window = stack > 90, (1, size, size)
    found = mean_around(stack, size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, uniform_filter(stack, window), rtol=1e-6)
    for few in (where, stack > 125):
        assert np.array_equal(any_around(few, size), maximum_filter(few, window))
    for many in (where, stack > 50, stack > 40):
        expected = minimum_filter(many, window, mode="constant", cval=0)
        assert np.array_equal(all_around(many, size), expected)
    assert all_around(stack > 0, size).any() == (min(shape[1:]) >= size)


def test_the_layout_of_a_stack_does_not_matter():
    stack = np.moveaxis(RNG.normal(size=(9, 12, 3)).astype(np.float32), 2, 0)[:, ::-1]
    assert np.array_equal(mean_around(stack, 3), mean_around(stack.copy(), 3))
    assert np.array_equal(any_around(stack > 1, 3), any_around((stack > 1).copy(), 3))
