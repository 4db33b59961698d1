from __future__ import annotations

import json
import wave
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeflow_agent.inputs.recording import BLOCK_ROWS, MAX_LINE, RecordingError, open_rows
from edgeflow_proto.pipeline.kinds.base import Intake, TimeField
from edgeflow_proto.pipeline.kinds.decoders import Senml
from edgeflow_proto.pipeline.units import Frequency

XY = Intake(fields=["x", "y"])


class Read:
    """All rows of a file, and what was said about those left out."""

    def __init__(self, path: Path, intake: Intake) -> None:
        self.said: list[tuple[str, str, int]] = []
        recording = open_rows(path, intake, lambda *said: self.said.append(said))
        found = [*recording]
        blocks = [np.array(block.values) for block in found]
        assert all(block.dtype == intake.dtype and block.shape[1:] == intake.row_shape for block in blocks)
        self.rows = np.concatenate([np.empty((0, *intake.row_shape), intake.dtype), *blocks])
        self.keys = [key for block in found for key in block.keys or ()]
        self.times = [time for block in found if block.times is not None for time in block.times.tolist()]
        self.rejected = dict(recording.rejected)


def written(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_columns_are_found_by_name(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "\ufefftime,y, x ,note\r\n1,2,3,ö\r\n4,5,6,b\r\n")
    assert Read(path, XY).rows.tolist() == [[3, 2], [6, 5]]
    assert Read(path, Intake(fields={"only": "y"}, dtype="int64")).rows.tolist() == [[2], [5]]


def test_a_bad_csv_line_is_counted_with_its_number_and_the_others_are_read(tmp_path: Path) -> None:
    lines = [
        "x,y", "1,2", "oops,3", "3", "4,5,6", "", '"7","8"', "nan,1", "1e39,1", "9,10", 'a"b,1', "11,12",
    ]  # fmt: skip
    read = Read(written(tmp_path, "a.csv", "\n".join(lines)), XY)
    assert read.rows.tolist() == [[1, 2], [7, 8], [9, 10], [11, 12]]
    assert read.rejected == {"type": 2, "shape": 2, "nan": 1, "range": 1}
    assert ("type", "a.csv: line 3: not a number of the input's dtype: 'oops'", 1) in read.said
    assert {said[1].split(":")[1] for said in read.said} >= {" line 4", " line 5", " line 8"}


def test_integers_in_csv_are_exact_and_nothing_else(tmp_path: Path) -> None:
    big = 2**62 + 1
    path = written(tmp_path, "a.csv", f"v\n{big}\n3.0\n{2**70}\n-1\n")
    read = Read(path, Intake(fields=["v"], dtype="int64"))
    assert read.rows.tolist() == [[big], [-1]]
    assert read.rejected == {"type": 1, "range": 1}
    path = written(tmp_path, "b.csv", "v\n1\n300\n255\n")
    assert Read(path, Intake(fields=["v"], dtype="uint8")).rows.tolist() == [[1], [255]]
    path = written(tmp_path, "c.csv", "v\ntrue\n0\nmaybe\n")
    assert Read(path, Intake(fields=["v"], dtype="bool")).rows.tolist() == [[True], [False]]


def test_a_long_csv_with_few_bad_lines_is_read_whole(tmp_path: Path) -> None:
    lines = [f"{i},{i / 2}" for i in range(60_000)]
    lines[777] = lines[50_001] = "x,y"
    read = Read(written(tmp_path, "a.csv", "x,y\n" + "\n".join(lines)), XY)
    good = np.delete(np.arange(60_000), [777, 50_001])
    np.testing.assert_array_equal(read.rows[:, 0], good.astype(np.float32))
    assert [said[1].split(": ")[1] for said in read.said] == ["line 779", "line 50003"]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.csv", "", "empty"),
        ("a.csv", "a,b\n1,2\n", "no column 'x'; there are: a, b"),
        ("a.npy", b"\x93NUMPY\x01\0", "not an array"),
        ("a.npy", b"", "not an array|cut short"),
        ("a.wav", b"RIFF", "not a PCM wav|cut short"),
        ("a.txt", "1", "cannot tell its format"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: Any, what: str) -> None:
    with pytest.raises(RecordingError, match=what) as caught:
        Read(written(tmp_path, name, content), XY)
    assert str(caught.value).startswith(name)


def test_a_line_without_end_is_left_out(tmp_path: Path) -> None:
    path = written(
        tmp_path, "a.jsonl", b"[1, 2]\n" + b"9" * (3 * MAX_LINE) + b"\n[3, 4]\n" + b"8" * (2 * MAX_LINE)
    )
    read = Read(path, XY)
    assert read.rows.tolist() == [[1, 2], [3, 4]]
    assert read.rejected == {"size": 2}
    assert [said[1].split(":")[1] for said in read.said] == [" line 2", " line 4"]


def test_jsonl_has_a_sample_a_line(tmp_path: Path) -> None:
    lines = [json.dumps({"x": i, "y": -i}) for i in range(5)]
    lines[2:2] = ["{", '{"x": 1}', ""]
    read = Read(written(tmp_path, "a.jsonl", "\n".join(lines)), XY)
    assert read.rows.tolist() == [[i, -i] for i in range(5)]
    assert read.rejected == {"json": 1, "missing_field": 1}


def test_npy_rows_lie_along_the_first_axis(tmp_path: Path) -> None:
    rows = np.arange(2 * (BLOCK_ROWS + 100), dtype="float64").reshape(-1, 2)
    rows[3, 1], rows[-1, 0] = np.nan, 1e300
    np.save(tmp_path / "a.npy", np.asfortranarray(rows))
    read = Read(tmp_path / "a.npy", XY)
    np.testing.assert_array_equal(read.rows, np.delete(rows[:-1], 3, axis=0).astype("float32"))
    assert read.rejected == {"nan": 1, "range": 1}
    np.save(tmp_path / "b.npy", np.arange(3))
    assert Read(tmp_path / "b.npy", Intake()).rows.tolist() == [[0], [1], [2]]
    np.save(tmp_path / "c.npy", np.zeros((2, 3, 4), "uint8"))
    assert Read(tmp_path / "c.npy", Intake(shape=(3, 4), dtype="uint8")).rows.shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("array", "intake", "what"),
    [
        (np.zeros((2, 3)), XY, "rows of shape"),
        (np.array(1.0), XY, "rows of shape"),
        (np.zeros((2, 2)), Intake(fields=["x", "y"], dtype="int8"), "float64 where int8"),
        (np.array([["a", "b"]]), XY, "where float32"),
        (np.array([[object(), 1]]), XY, "not an array"),
    ],
)
def test_npy_of_another_form_is_refused(tmp_path: Path, array: Any, intake: Intake, what: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(RecordingError, match=what):
        Read(tmp_path / "a.npy", intake)


def sound(path: Path, data: bytes, width: int, channels: int = 1, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_samples_are_floats_between_minus_one_and_one(tmp_path: Path, width: int) -> None:
    full = 1 << (8 * width - 1)
    values = [-full, 0, full // 2, full - 1]
    data = b"".join(
        (value + (128 if width == 1 else 0)).to_bytes(width, "little", signed=width > 1) for value in values
    )
    intake = Intake(fields=["sound"], rate=Frequency(16000))
    rows = Read(sound(tmp_path / "a.wav", data, width), intake).rows[:, 0]
    np.testing.assert_allclose(rows, [-1, 0, 0.5, 1 - 1 / full], atol=1e-7)


def test_wav_channels_are_columns_and_its_rate_must_be_the_inputs(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav", np.array([[1, -1], [2, -2]], "<i2").tobytes(), 2, 2)
    assert (Read(path, XY).rows * 32768).tolist() == [[1, -1], [2, -2]]
    for intake, what in (
        (Intake(fields=["x"]), "2 channels"),
        (Intake(fields=["x", "y"], dtype="int32"), "its 16-bit samples are floats in -1..1, not int32"),
        (Intake(fields=["x", "y"], rate=Frequency(8000)), "16000 Hz, but the input's rate is 8000 Hz"),
    ):
        with pytest.raises(RecordingError, match=what):
            Read(path, intake)
    path.write_bytes(path.read_bytes()[:-3])
    assert len(Read(path, XY).rows) == 1


def test_sixteen_bit_wav_samples_are_what_they_are_where_the_input_is_int16(tmp_path: Path) -> None:
    values = np.array([-32768, -1, 0, 32767], "<i2")
    intake = Intake(fields=["sound"], dtype="int16")
    read = Read(sound(tmp_path / "a.wav", values.tobytes(), 2), intake)
    np.testing.assert_array_equal(read.rows[:, 0], values)
    with pytest.raises(RecordingError, match="its 24-bit samples are floats"):
        Read(sound(tmp_path / "b.wav", bytes(12), 3), intake)


HEADS = {"csv": b"x,y\n", "jsonl": b"", "npy": b"\x93NUMPY\x01\0", "wav": b"RIFF"}


@given(content=st.binary(max_size=300), ending=st.sampled_from([*HEADS]))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str
) -> None:
    path = written(tmp_path_factory.getbasetemp(), f"any.{ending}", HEADS[ending] + content)
    with suppress(RecordingError):
        assert Read(path, XY).rows.shape[1:] == (2,)


MARKED = Intake(fields=["x"], key="sensor", time=TimeField(field="at", unit="iso"), codes={}, _fielded=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "at,sensor,x\n2020-01-01T00:00:00Z,s1,1\n2020-01-01T00:00:01Z,s2,2\nnever,s1,3\n"),
        ("a.jsonl", '{"at": "2020-01-01T00:00:00Z", "sensor": "s1", "x": 1}\n'
         '{"at": "2020-01-01T00:00:01Z", "sensor": "s2", "x": 2}\n{"at": "never", "sensor": "s1", "x": 3}\n'),
    ],
)  # fmt: skip
def test_rows_carry_their_keys_and_times(tmp_path: Path, name: str, content: str) -> None:
    read = Read(written(tmp_path, name, content), MARKED)
    assert read.rows.tolist() == [[1], [2]]
    assert read.keys == ["s1", "s2"]
    assert read.times == [1577836800 * 10**9, 1577836801 * 10**9]
    assert read.rejected == {"time": 1}


def test_texts_in_csv_stand_for_numbers(tmp_path: Path) -> None:
    intake = Intake(fields=["state"], codes={"state": ["idle", "run"]}, dtype="uint8")
    read = Read(written(tmp_path, "a.csv", "state\nrun\nidle\nrunning\n"), intake)
    assert (read.rows.tolist(), read.rejected) == ([[1], [0]], {"code": 1})


def test_npz_has_an_array_for_each_field(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3.0), y=np.arange(3.0) * 2, sensor=np.array(["a", "b", "a"]))
    assert Read(path, XY).rows.tolist() == [[0, 0], [1, 2], [2, 4]]
    keyed = Intake(fields=["x"], key="sensor", _fielded=True)
    assert Read(path, keyed).keys == ["a", "b", "a"]
    with pytest.raises(RecordingError, match="no array 'z'"):
        Read(path, Intake(fields=["z"]))


def test_a_folder_of_packed_rows_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name, rows in (("b.bin", [[3, 4]]), ("a.bin", [[1, 2], [5, 6]]), ("c.bin", [])):
        (tmp_path / name).write_bytes(np.array(rows, "<i2").tobytes())
    read = Read(tmp_path, Intake(fields=["x", "y"], dtype="int16"))
    assert (read.rows.tolist(), read.rejected) == ([[1, 2], [5, 6], [3, 4]], {"shape": 1})


def test_a_pack_of_senml_a_line(tmp_path: Path) -> None:
    lines = '[{"bn": "a:", "n": "t", "v": 1}]\n[{"n": "a:t", "v": 2}, {"n": "b:t", "v": 3}]\n'
    intake = Intake(fields=["x"], key="name", _fielded=True, decode=Senml())
    read = Read(written(tmp_path, "a.jsonl", lines), intake)
    assert (read.rows.tolist(), read.keys) == ([[1], [2], [3]], ["a:t", "a:t", "b:t"])
