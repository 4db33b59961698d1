"""Four words of a synthesiser, a pause behind each, over a little noise. Needs Debian's espeak-ng.

python -m examples.simulation.words
"""

from __future__ import annotations

import io
import subprocess
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

RECORDING = Path(__file__).parents[1] / "recordings" / "words.wav"
WORDS = ("yes", "left", "house", "right")
RATE, SECONDS = 16000, 6
FIRST, APART = 1.0, 1.2  # seconds
NOISE = 20  # standard deviation, of 32768


def spoken(word: str) -> npt.NDArray[np.float64]:
    """Return a word at `RATE`, half as loud as it was spoken, from where it can be heard."""
    said = subprocess.run(["espeak-ng", "-v", "en-us", "--stdout", word], check=True, capture_output=True)
    with wave.open(io.BytesIO(said.stdout)) as file:
        rate, data = file.getframerate(), file.readframes(-1)
    data = data[: len(data) // 2 * 2]
    sound = np.frombuffer(data, "<i2").astype(np.float64) / 2
    even = np.interp(np.arange(0, len(sound) / rate, 1 / RATE), np.arange(len(sound)) / rate, sound)
    return even[np.flatnonzero(abs(even) > 100)[0] :][: int(0.75 * RATE)]


def recording() -> npt.NDArray[np.int16]:
    """Return the whole recording."""
    sound = np.random.default_rng(0).normal(0, NOISE, SECONDS * RATE)
    for place, word in enumerate(WORDS):
        begin, heard = int((FIRST + APART * place) * RATE), spoken(word)
        sound[begin : begin + len(heard)] += heard
    return np.clip(sound, -32768, 32767).astype(np.int16)


if __name__ == "__main__":
    with wave.open(str(RECORDING), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(recording().astype("<i2").tobytes())
