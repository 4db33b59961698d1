"""What the pipeline makes of each window of samples. All windows that are there come at once."""

import numpy as np
from numpy.typing import NDArray


def level(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rms and peak of each window: (n, 250, 1) → (n, 2)."""
    x = windows[:, :, 0]
    rms = np.sqrt(np.mean(x * x, axis=1))
    peak = np.abs(x).max(axis=1)
    return np.stack((rms, peak), axis=1)
