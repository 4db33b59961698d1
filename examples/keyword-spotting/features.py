"""What the model of keywords was trained on: mel-frequency cepstral coefficients of a second of sound.

As MLPerf Tiny prepares them (github.com/mlcommons/tiny, benchmark/training/keyword_spotting/get_dataset.py):
sound relative to its loudest sample; 49 Hann frames of 30 ms, 20 ms apart; magnitudes in 40 triangular bands
on the mel scale of HTK, 20 Hz to 4 kHz; the first ten lines of the cosine transform of their logarithms.
"""

import numpy as np

RATE, FRAME, HOP, LENGTH = 16000, 480, 320, 512
BANDS, COEFFICIENTS = 40, 10


def mel(hertz):
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def triangles():
    """Return how much each of the 257 lines of a frame's spectrum counts in each band, ``(257, 40)``."""
    edges = np.linspace(mel(20.0), mel(4000.0), BANDS + 2)
    lines = mel(np.arange(LENGTH // 2 + 1) * RATE / LENGTH)[:, None]
    rising = (lines - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - lines) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def cosines():
    """Return the orthogonal cosine transform of type II, scaled as TensorFlow does, ``(40, 10)``."""
    places = np.pi * (2 * np.arange(BANDS)[:, None] + 1) / (2 * BANDS)
    return 2 * np.cos(places * np.arange(COEFFICIENTS)) / np.sqrt(2 * BANDS)


WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)
TRIANGLES, COSINES = triangles(), cosines()


def mfcc(seconds):
    """Return the coefficients of seconds of sound: ``(n, 16000, 1)`` → ``(n, 49, 10, 1)``."""
    sound = seconds.reshape(len(seconds), -1).astype(np.float64)
    sound /= np.maximum(sound.max(axis=1, keepdims=True), 1e-9)
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME, axis=1)[:, ::HOP]
    loudness = np.abs(np.fft.rfft(frames * WINDOW, LENGTH)) @ TRIANGLES
    return (np.log(loudness + 1e-6) @ COSINES)[..., None]
