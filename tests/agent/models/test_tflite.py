from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeflow_agent.core.ports import ModelError, ModelSetup
from edgeflow_agent.models.load import load_model, read_signature
from edgeflow_agent.models.tflite import LOT
from edgeflow_proto.bundle import Tensor
from tests.support.models import through
from tests.support.tflite_files import added


@pytest.fixture
def hello(test_data: Path) -> Path:
    return test_data / "tflite-micro" / "hello_world" / "hello_world_float.tflite"


def test_a_signature_has_scale_zero_point_and_free_dimensions(test_data: Path) -> None:
    signature = read_signature(test_data / "mlperf-tiny" / "models" / "ad01_int8.tflite")
    assert signature.inputs == (Tensor("input_1", "int8", (-1, 640), 0.3910152316093445, 89),)
    assert signature.outputs == (Tensor("Identity", "int8", (-1, 640), 0.36449846625328064, 96),)


def test_a_fixed_batch_stays_fixed(test_data: Path) -> None:
    path = test_data / "tflite-micro" / "micro_speech" / "micro_speech_quantized.tflite"
    assert read_signature(path).inputs[0].shape == (1, 1960)


def test_a_sine_comes_out(hello: Path) -> None:
    x = np.linspace(0, 2 * np.pi, 100, dtype=np.float32)[:, None]
    np.testing.assert_allclose(through(load_model(hello), x), np.sin(x), atol=0.11)


def test_lots_and_single_rows_agree(test_data: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("ad01_fp32", "ad01_int8", "kws_ref_model"):
        model = load_model(test_data / "mlperf-tiny" / "models" / f"{name}.tflite")
        tensor = model.signature.inputs[0]
        rows = rng.integers(-50, 50, (2 * LOT + 5, *tensor.shape[1:])).astype(tensor.dtype)
        singles = np.concatenate([through(model, rows[i : i + 1]) for i in range(len(rows))])
        for count in (2, LOT, LOT + 1, 2 * LOT + 5, 1):
            np.testing.assert_allclose(through(model, rows[:count]), singles[:count], rtol=1e-5, atol=1e-5)


def test_results_stay_valid(hello: Path) -> None:
    model = load_model(hello)
    first = through(model, np.float32([[1]]))
    kept = first.copy()
    through(model, np.float32([[2]]))
    np.testing.assert_array_equal(first, kept)


def test_every_model_loads_and_runs(test_data: Path) -> None:
    paths = sorted((test_data / "mlperf-tiny" / "models").glob("*.tflite"))
    assert len(paths) == 9
    for path in paths:
        model = load_model(path)
        tensor = model.signature.inputs[0]
        result = through(model, np.zeros((1, *tensor.shape[1:]), tensor.dtype))
        assert result.shape == (1, *model.signature.outputs[0].shape[1:])


@pytest.mark.parametrize("name", ["audio_preprocessor_int8", "audio_preprocessor_float"])
def test_an_op_the_runtime_lacks_is_named(test_data: Path, name: str, hello: Path) -> None:
    with pytest.raises(ModelError) as raised:
        load_model(test_data / "tflite-micro" / "micro_speech" / f"{name}.tflite")
    assert str(raised.value) == f"{name}.tflite: op SignalWindow is not supported by this runtime"
    assert through(load_model(hello), np.float32([[0]])).shape == (1, 1)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, hello: Path, part: float) -> None:
    whole = hello.read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ModelError, match=r"^cut.tflite: "):
        load_model(tmp_path / "cut.tflite")


def test_loading_prints_nothing(hello: Path, capfd: pytest.CaptureFixture[str]) -> None:
    through(load_model(hello), np.zeros((LOT, 1), np.float32))
    assert capfd.readouterr() == ("", "")


def test_without_a_runtime_it_says_which_to_install(hello: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match="neither ai-edge-litert nor tflite-runtime is installed"):
        load_model(hello)


def test_xnnpack_executes_unless_plain_kernels_are_asked_for(hello: Path) -> None:
    x = np.linspace(0, 6, 5, dtype=np.float32)[:, None]
    usual, plain = load_model(hello), load_model(hello, ModelSetup(provider="cpu", required=True))
    assert (usual.provider, plain.provider) == ("xnnpack", "cpu")
    np.testing.assert_allclose(through(usual, x), through(plain, x), atol=1e-5)
    assert load_model(hello, ModelSetup(provider="cuda")).provider == "xnnpack"
    with pytest.raises(ModelError, match="needs cuda, but only xnnpack is here to execute it"):
        load_model(hello, ModelSetup(provider="cuda", required=True))


def test_inputs_and_outputs_go_by_name(tmp_path: Path) -> None:
    left, right = Tensor("left", "float32", (1, 2)), Tensor("right", "float32", (1, 2))
    path = added(
        tmp_path / "m.tflite", left, right, Tensor("one", "float32", (1, 2)), Tensor("two", "float32", (1, 2))
    )
    model = load_model(path)
    assert model.signature.inputs == (left, right)
    feeds = {"right": np.float32([[10, 20]]), "left": np.float32([[1, 2]])}
    for names in (["two", "one"], ["one"]):
        results = model.run(feeds, names)
        assert [result.tolist() for result in results] == [[[11, 22]]] * len(names)
    with pytest.raises(KeyError, match="left"):
        model.run({"right": np.float32([[1, 1]])}, ["one"])


def test_a_scale_per_channel_and_names_used_twice_are_refused(tmp_path: Path) -> None:
    x = Tensor("x", "int8", (1, 2), 0.5, 3)
    with pytest.raises(ModelError) as raised:
        load_model(added(tmp_path / "m.tflite", x, Tensor("z", "int8", (1, 2), 0.5, 3), x, scales=2))
    assert str(raised.value) == "m.tflite: x is quantised per channel (2 scales), not as a whole"
    with pytest.raises(ModelError, match=r"^m.tflite: several inputs or outputs have one name: x, x"):
        load_model(added(tmp_path / "m.tflite", x, x, x))
