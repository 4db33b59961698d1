"""What the anomaly model looks at."""

import numpy as np

BANDS = 16
HANN = np.hanning(512).astype(np.float32)


def spectrum(windows):
    """Return the power in 16 bands of 31 Hz each, as log10: (n, 512, 1) in m/s² → (n, 16)."""
    amplitude = np.abs(np.fft.rfft(windows[:, :, 0] * HANN, axis=1))[:, 1:]
    power = np.square(amplitude).reshape(len(windows), BANDS, -1).mean(axis=2)
    return np.log10(power + 1e-6)
