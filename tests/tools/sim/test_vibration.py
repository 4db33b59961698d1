"""The simulated bearing: does it shake as physics says?"""

from __future__ import annotations

import numpy as np

from edgeflow_tools.sim.vibration import RATE, Bearing, Doubles, Signal, vibration

SECONDS = 40
HALF = SECONDS * RATE // 2


def spectrum(signal: Signal | Doubles) -> Doubles:
    """Amplitudes at 0, 1, 2, … Hz."""
    seconds = np.asarray(signal, np.float64).reshape(-1, RATE)
    found: Doubles = np.sqrt(np.square(np.abs(np.fft.rfft(seconds - seconds.mean(), axis=1))).mean(axis=0))
    return found * 2 / RATE


def test_the_same_seed_gives_the_same_samples_and_another_seed_others() -> None:
    first = vibration(5000, Bearing(), 3, 2000)
    assert first.dtype == np.float32
    assert first.tobytes() == vibration(5000, Bearing(), 3, 2000).tobytes()
    assert not np.array_equal(first, vibration(5000, Bearing(), 4, 2000))


def test_a_sound_bearing_shows_the_shafts_harmonics_and_noise() -> None:
    bearing = Bearing(shaft=25.0, load=0.0)
    amplitudes = spectrum(vibration(SECONDS * RATE, bearing, 1, None))
    for order, amplitude in enumerate(bearing.harmonics, 1):
        assert abs(amplitudes[25 * order] - amplitude) < 0.05
    floor = bearing.noise * 2 / np.sqrt(RATE)  # of white noise, in a bin of 1 Hz
    assert abs(np.median(amplitudes) - floor) < 0.2 * floor


def test_before_the_damage_nothing_differs_from_a_sound_bearing() -> None:
    damaged, sound = (vibration(2 * HALF, Bearing(), 1, at) for at in (HALF, None))
    np.testing.assert_array_equal(damaged[:HALF], sound[:HALF])
    assert damaged[HALF:].std() > 1.5 * sound[HALF:].std()


def test_damage_rings_at_the_resonance_with_the_beat_of_the_balls() -> None:
    bearing = Bearing(noise=0.05)
    signal = vibration(2 * HALF, bearing, 1, HALF)[HALF:].astype(np.float64)
    amplitudes = spectrum(signal)
    high = amplitudes[200:]
    assert abs(200 + int(np.argmax(high)) - bearing.resonance) < 30
    # The envelope of what rings: squared, its strongest beat is that of the balls.
    bins = np.fft.rfft(signal)
    bins[: 200 * len(signal) // RATE] = 0
    envelope = np.square(np.fft.irfft(bins))
    assert abs(int(np.argmax(spectrum(envelope)[20:150])) + 20 - bearing.ball_pass) <= 1


def test_the_ball_pass_frequency_is_that_of_the_textbook() -> None:
    """A 6205 bearing: 3.585 times the shaft's speed, as its maker's tables have it."""
    assert abs(Bearing(shaft=1.0).ball_pass - 3.585) < 0.01
