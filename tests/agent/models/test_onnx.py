from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeflow_agent.core.ports import ModelError, ModelSetup
from edgeflow_agent.models.load import load_model, read_signature
from edgeflow_proto.bundle import Tensor
from tests.support.models import through
from tests.support.onnx_files import doubled, linear

WEIGHTS = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)


def test_a_signature_says_which_dimensions_are_free(tmp_path: Path) -> None:
    signature = read_signature(linear(tmp_path / "m.onnx", WEIGHTS))
    assert signature.inputs == (Tensor("x", "float32", (-1, 6)),)
    assert signature.outputs == (Tensor("y", "float32", (-1, 3)),)
    assert read_signature(linear(tmp_path / "m1.onnx", WEIGHTS, batch=1)).inputs[0].shape == (1, 6)


def test_any_number_of_rows_gives_results_that_stay_valid(tmp_path: Path) -> None:
    model = load_model(linear(tmp_path / "m.onnx", WEIGHTS))
    rng = np.random.default_rng(2)
    for _ in range(2):  # unbound, then bound
        asked = [rng.normal(size=(count, 6)).astype(np.float32) for count in (1, 2, 1, 8, 9, 64, 1, 2)]
        results = [through(model, rows) for rows in asked]
        for rows, result in zip(asked, results, strict=True):
            np.testing.assert_allclose(result, rows @ WEIGHTS, rtol=1e-4, atol=1e-5)


def test_rows_may_be_views_and_read_only(tmp_path: Path) -> None:
    model = load_model(linear(tmp_path / "m.onnx", WEIGHTS))
    rows = np.random.default_rng(3).normal(size=(4, 12)).astype(np.float32)[:, ::2]
    rows.flags.writeable = False
    for _ in range(2):
        np.testing.assert_allclose(through(model, rows), rows @ WEIGHTS, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_other_dtypes_go_through(tmp_path: Path, dtype: str) -> None:
    model = load_model(doubled(tmp_path / "m.onnx", 2, dtype))
    assert model.signature.inputs[0].dtype == dtype
    rows = np.array([[1, 2], [3, 4]], dtype)
    for _ in range(2):
        result = through(model, rows)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, rows * 2)


def test_what_the_runtime_refuses_is_a_runtime_error(tmp_path: Path) -> None:
    model = load_model(linear(tmp_path / "m.onnx", WEIGHTS))
    with pytest.raises(RuntimeError, match="Got: 5 Expected: 6"):
        through(model, np.zeros((1, 5), np.float32))
    assert through(model, np.zeros((1, 6), np.float32)).shape == (1, 3)


@pytest.mark.parametrize("kept", [0, 1, 20, 100])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: int, capfd: pytest.CaptureFixture[str]) -> None:
    whole = linear(tmp_path / "whole.onnx", WEIGHTS).read_bytes()
    assert len(whole) > 100
    (tmp_path / "cut.onnx").write_bytes(whole[:kept])
    with pytest.raises(ModelError, match=r"^cut.onnx: (?!.*ONNXRuntimeError)"):
        load_model(tmp_path / "cut.onnx")
    assert capfd.readouterr().err == ""


def test_missing_files_and_unknown_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^none.onnx: no such file"):
        load_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"^m.pt: no runtime for this format \(known: onnx, tflite\)"):
        load_model(tmp_path / "m.pt")


def test_a_model_with_several_inputs_is_described(test_data: Path) -> None:
    signature = read_signature(test_data / "silero-vad" / "silero_vad_16k_op15.onnx")
    assert signature.inputs == (
        Tensor("input", "float32", (-1, -1)),
        Tensor("state", "float32", (2, -1, 128)),
        Tensor("sr", "int64", ()),
    )
    assert [tensor.name for tensor in signature.outputs] == ["output", "stateN"]


def test_inputs_and_outputs_go_by_name(test_data: Path) -> None:
    model = load_model(test_data / "silero-vad" / "silero_vad_16k_op15.onnx")
    state, zeros = np.zeros((2, 1, 128), np.float32), np.zeros((1, 576), np.float32)
    feeds = {"sr": np.array(16000), "state": state, "input": zeros}
    for _ in range(2):  # unbound, then bound
        first, given = model.run(feeds, ["stateN", "output"])
        assert (first.shape, given.shape) == ((2, 1, 128), (1, 1))
        second, other = model.run(feeds | {"state": first}, ["stateN", "output"])
        assert not np.array_equal(first, second)
        np.testing.assert_array_equal(model.run(feeds, ["output"])[0], given)
        assert other != given
    with pytest.raises(KeyError, match="sr"):
        model.run({"input": zeros, "state": state}, ["output"])


def test_the_provider_asked_for_gives_way_to_the_one_there_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = linear(tmp_path / "m.onnx", WEIGHTS)
    if "XnnpackExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has all the providers that the test lacks")
    assert load_model(path).provider == "cpu"
    assert load_model(path, ModelSetup(provider="xnnpack")).provider == "cpu"
    assert load_model(path, ModelSetup(provider="cpu", required=True)).provider == "cpu"
    with pytest.raises(ModelError, match=r"^m.onnx: needs xnnpack, but only cpu is here to execute it$"):
        load_model(path, ModelSetup(provider="xnnpack", required=True))
    assert capfd.readouterr() == ("", "")
