from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_agent.core.ports import Feeds, ModelError, ModelSetup, Operator, StepContext
from edgeflow_agent.operators.model import MAX_ROWS, model_step
from edgeflow_agent.operators.tensors import dequantised, quantised
from edgeflow_proto.bundle import Signature, Tensor
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.base import Context
from edgeflow_proto.pipeline.kinds.steps.model import Model, Provider
from tests.support.documents import Beside
from tests.support.onnx_files import linear, summing
from tests.support.steps import XY, alone, assert_indifferent, keyed, rows, sizes, step
from tests.support.tflite_files import added

WEIGHTS = np.array([[1, 10, 100], [2, 20, 200]], np.float32)
FREE = Tensor("x", "float32", (-1, 2))
UNKNOWN = Flow()
ONE = np.ones((1, 2), np.float32)


@dataclass
class Recorded:
    """A model that gives twice what its first input is fed, for each output, and remembers its feeds."""

    signature: Signature
    provider: str = "cpu"
    calls: list[dict[str, Values]] = field(default_factory=list)

    def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[Values]:
        self.calls.append(dict(feeds))
        return [feeds[self.signature.inputs[0].name] * 2 for _ in outputs]

    @property
    def fed(self) -> list[Values]:
        return [feeds[self.signature.inputs[0].name] for feeds in self.calls]


@dataclass
class Loader:
    """Stands for the loading of a model's file, and remembers how it was asked for."""

    model: Recorded
    setup: ModelSetup | None = None

    def __call__(self, path: Path, setup: ModelSetup) -> Recorded:
        self.setup = setup
        return self.model


def made(
    loader: Loader, upstream: Flow = UNKNOWN, files: Mapping[str, bytes] | None = None, **options: object
) -> Operator:
    """The step of a model, named ``score``."""
    kind = Model(file="m.onnx", **options)  # type: ignore[arg-type]
    beside = Context("score", "test", Beside(files or {}), {"m.onnx": loader.model.signature})
    flows = kind.flows(upstream, beside)
    return model_step(kind, StepContext("score", {"in": upstream}, flows, Path("nowhere"), loader))


def fed(tensor: Tensor, *given: Tensor, **options: object) -> tuple[Operator, Recorded]:
    """The step of a model of one input, warm, and the model."""
    model = Recorded(Signature((tensor,), given or (tensor,)))
    operator = made(Loader(model), **options)  # type: ignore[arg-type]
    model.calls.clear()
    return operator, model


def classes(values: Sequence[Sequence[float]], **options: object) -> Batch:
    """What a step makes of a model's values per class."""
    array = np.array(values, np.float32)
    return fed(Tensor("x", "float32", (-1, array.shape[1])), **options)[0](rows(array / 2))[""]


# rows and batches


@pytest.mark.parametrize("free", ["n", 1])
@given(batch=keyed(st.floats(-100, 100, width=32), most=200), sizes=sizes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_results_do_not_depend_on_how_rows_are_cut(
    tmp_path: Path, free: str | int, batch: Batch, sizes: list[int]
) -> None:
    linear(tmp_path / "m.onnx", WEIGHTS, free)
    made = step(Model(file="m.onnx"), folder=tmp_path)
    came = assert_indifferent(lambda: alone(made), batch, sizes)
    np.testing.assert_allclose(came["out"].values, batch.values @ WEIGHTS, rtol=1e-4, atol=1e-3)
    assert came["out"].columns == ("step_0", "step_1", "step_2")


def test_a_free_batch_takes_many_rows_up_to_a_bound() -> None:
    made, model = fed(FREE)
    made(rows(np.ones((2 * MAX_ROWS + 3, 2), np.float32)))
    assert [len(call) for call in model.fed] == [MAX_ROWS, MAX_ROWS, 3]


def test_a_fixed_batch_and_large_rows_go_one_by_one() -> None:
    for tensor in (Tensor("x", "float32", (1, 2)), Tensor("x", "float32", (-1, 2048))):
        made, model = fed(tensor)
        made(rows(np.ones((3, tensor.shape[1]), np.float32)))
        assert [len(call) for call in model.fed] == [1, 1, 1]


def test_rows_are_reshaped_to_the_model() -> None:
    made, model = fed(Tensor("x", "float32", (-1, 49, 10, 1)))
    made(rows(np.ones((2, 490), np.float32)))
    assert model.fed[0].shape == (2, 49, 10, 1)
    made, model = fed(Tensor("x", "float32", (-1, -1, 3)))
    made(rows(np.ones((2, 12), np.float32)))
    made(rows(np.ones((2, 5, 3), np.float32)))
    assert [call.shape for call in model.fed] == [(2, 4, 3), (2, 5, 3)]


def test_rows_that_do_not_fit_are_refused() -> None:
    made, _ = fed(Tensor("x", "float32", (-1, 4)))
    with pytest.raises(ValueError, match=r"m.onnx takes \[-1, 4\] float32, but is fed rows of shape \[3\]"):
        made(rows(np.ones((2, 3), np.float32)))
    with pytest.raises(ValueError, match=r"m.onnx takes \[-1, 4\] float32, but is fed int16"):
        made(rows(np.ones((2, 4), np.int16)))


def test_doubles_become_floats_and_floats_doubles() -> None:
    for tensor, values in ((FREE, np.float64([[0.1, 2]])), (Tensor("x", "float64", (-1, 2)), ONE)):
        made, model = fed(tensor)
        assert made(rows(values))[""].values.dtype == tensor.dtype
        np.testing.assert_array_equal(model.fed[0], values.astype(tensor.dtype))


# setting up


def test_it_is_run_on_zeros_before_the_first_row() -> None:
    model = Recorded(Signature((Tensor("x", "float32", (-1, -1)),), (Tensor("y", "float32", (-1, -1)),)))
    made(Loader(model), Flow((3, 2), "float64"))
    assert [call.tolist() for call in model.fed] == [[[0] * 6]]
    made(Loader(model))  # where it is not known what rows look like, it is not
    assert len(model.calls) == 1


def test_a_model_that_does_not_run_on_zeros_is_refused() -> None:
    @dataclass
    class Broken(Recorded):
        def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[Values]:
            raise RuntimeError("no kernel for Erf")

    with pytest.raises(ModelError, match=r"^m.onnx does not run on zeros: no kernel for Erf$"):
        made(Loader(Broken(Signature((FREE,), (FREE,)))))


def test_a_model_that_gives_another_number_of_rows_is_refused() -> None:
    @dataclass
    class Short(Recorded):
        def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[Values]:
            return [rows[:1] for rows in feeds.values()]

    operator = made(Loader(Short(Signature((FREE,), (FREE,)))))
    with pytest.raises(ValueError, match=r"m.onnx gave 1 rows for 2"):
        operator(rows(np.ones((2, 2), np.float32)))


def test_another_provider_than_asked_for_is_told() -> None:
    loader = Loader(Recorded(Signature((FREE,), (FREE,))))
    assert made(loader, threads=3).notices == ()
    assert loader.setup == ModelSetup(3)
    assert made(loader, provider="cpu").notices == ()
    assert made(loader, provider="cuda").notices == ("m.onnx is executed by cpu: cuda is not here",)
    made(loader, provider=Provider(name="cuda", required=True))
    assert loader.setup == ModelSetup(1, "cuda", required=True)


@pytest.mark.parametrize(
    ("inputs", "output", "why"),
    [
        ((FREE, Tensor("z", "float32", (-1, 2))), FREE, "has 2 inputs (x, z); one is fed"),
        ((Tensor("x", "float32", ()),), FREE, "x is a single value, without a batch dimension"),
        ((FREE,), Tensor("y", "float32", ()), "y is a single value, without a batch dimension"),
        ((Tensor("x", "float16", (-1, 2)),), FREE, "x is of type float16, which rows cannot be"),
        ((Tensor("x", "float32", (8, 2)),), FREE, "takes 8 rows at a time; one or any number is possible"),
    ],
)
def test_models_that_cannot_be_fed_are_refused(inputs: tuple[Tensor, ...], output: Tensor, why: str) -> None:
    loader = Loader(Recorded(Signature(inputs, (output,))))
    context = StepContext("score", {"in": XY}, {"": Flow()}, Path("nowhere"), loader)
    with pytest.raises(ModelError) as raised:
        model_step(Model(file="m.onnx"), context)
    assert str(raised.value).startswith("m.onnx")
    assert why in str(raised.value)


# constants and state


@pytest.mark.parametrize(
    ("tensor", "value", "wanted"),
    [
        (Tensor("c", "int64", ()), 16000, 16000),
        (Tensor("c", "int64", (1,)), 16000, [16000]),
        (Tensor("c", "float32", (2, 3)), 0.5, [[0.5] * 3] * 2),
        (Tensor("c", "float32", (-1, 2)), 3, [[3, 3]]),
        (Tensor("c", "uint8", (-1, 2)), [[1, 2], [3, 255]], [[1, 2], [3, 255]]),
        (Tensor("c", "bool", (2,)), [True, False], [True, False]),
    ],
)
def test_constants_are_fed_with_every_row(tensor: Tensor, value: object, wanted: object) -> None:
    model = Recorded(Signature((FREE, tensor), (FREE,)))
    operator = made(Loader(model), constants={"c": value})
    operator(rows(np.ones((3, 2), np.float32)))
    for call in model.calls:
        assert call["c"].dtype == tensor.dtype
        assert call["c"].tolist() == wanted
    # What has a batch dimension of its own would not fit several rows.
    assert len(model.fed[-1]) == (1 if tensor.shape[:1] == (-1,) else 3)


SUMMING = Model(file="m.onnx", constants={"gain": 2}, state={"total": "sum"})


@given(batch=keyed(st.integers(-50, 50).map(float)), sizes=sizes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_state_is_carried_from_row_to_row_of_each_key(tmp_path: Path, batch: Batch, sizes: list[int]) -> None:
    summing(tmp_path / "m.onnx")
    came = assert_indifferent(lambda: alone(step(SUMMING, folder=tmp_path)), batch, sizes)["out"]
    for key in np.unique(batch.key):
        mine = batch.key == key
        np.testing.assert_allclose(came.values[mine], 2 * np.cumsum(batch.values[mine], axis=0), rtol=1e-5)


def test_state_is_carried_through_a_quantised_tflite_model(tmp_path: Path) -> None:
    x, old, new = (Tensor(name, "int8", (1, 2), 0.5, -7) for name in ("x", "old", "new"))
    added(tmp_path / "m.tflite", x, old, new, Tensor("y", "int8", (1, 2), 0.5, -7))
    options = Model(file="m.tflite", state={"new": "old"})
    values = np.random.default_rng(2).integers(-4, 5, (40, 2)).astype(np.float32)
    batch = rows(values, key=np.arange(40) % 3)
    out = assert_indifferent(lambda: alone(step(options, folder=tmp_path)), batch, [3, 1, 7])["out"]
    for key in range(3):
        np.testing.assert_array_equal(out.values[key::3], np.cumsum(values[key::3], axis=0))


def test_state_begins_anew_after_a_gap(tmp_path: Path) -> None:
    summing(tmp_path / "m.onnx")
    runtime = alone(step(SUMMING, folder=tmp_path))
    for total in (2, 4):
        assert runtime.push("in", rows(ONE))[0][1].values.tolist() == [[total, total]]
    runtime.gap("in")
    assert runtime.push("in", rows(ONE))[0][1].values.tolist() == [[2, 2]]


def test_the_state_of_a_quantised_model_begins_with_what_stands_for_zero() -> None:
    x, old, new = (Tensor(name, "int8", (1, 2), 0.5, -7) for name in ("x", "old", "new"))
    model = Recorded(Signature((x, old), (x, new)))
    made(Loader(model), state={"new": "old"})
    assert model.calls[0]["old"].tolist() == [[-7, -7]]


# quantised models

QUANTISED = Tensor("q", "int8", (-1, 2), scale=0.5, zero_point=-10)


def test_floats_are_quantised_and_results_come_back_as_floats() -> None:
    made, model = fed(QUANTISED, Tensor("r", "int8", (-1, 2), scale=0.25, zero_point=4))
    for dtype in (np.float32, np.float64):
        out = made(rows(np.array([[0.25, 0.75], [1000, -1000]], dtype)))[""]
        # Half to even: 0.5 → 0, 1.5 → 2, then the zero point; the rest is clipped.
        assert model.fed[-1].tolist() == [[-10, -8], [127, -128]]
        assert model.fed[-1].dtype == np.int8
        doubled = np.array([[-20, -16], [-2, 0]], np.int8)  # 254 and -256 wrap in the model, not in the step
        np.testing.assert_array_equal(out.values, (doubled.astype(np.float32) - 4) * np.float32(0.25))
        assert out.values.dtype == np.float32


def test_rows_of_the_models_own_dtype_are_fed_as_they_are() -> None:
    for quantise in ("auto", "raw"):
        made, model = fed(QUANTISED, quantise=quantise)
        made(rows(np.array([[3, -4]], np.int8)))
        assert model.fed[0].tolist() == [[3, -4]]
    with pytest.raises(ValueError, match=r"takes .* int8, but is fed float32"):
        made(rows(ONE))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "float32"])
def test_integers_are_quantised_where_that_is_asked_for(dtype: str) -> None:
    made, model = fed(QUANTISED, quantise="model")
    made(rows(np.array([[3, -4]], dtype)))
    assert model.fed[0].tolist() == [[-4, -18]]


def test_nan_is_not_quantised_into_a_number() -> None:
    with pytest.raises(ValueError, match="NaN has no quantised form"):
        fed(QUANTISED)[0](rows(np.array([[1, np.nan]], np.float32)))


@given(st.floats(0.001, 10), st.integers(-128, 127), st.lists(st.integers(-128, 127), min_size=1))
def test_quantising_undoes_dequantising(scale: float, zero_point: int, stored: list[int]) -> None:
    tensor = Tensor("q", "int8", (-1,), scale, zero_point)
    values = np.array(stored, np.int8)
    np.testing.assert_array_equal(quantised(dequantised(values, tensor), tensor), values)


# results


def test_columns_are_those_given_or_named_after_the_step() -> None:
    assert fed(FREE)[0](rows(ONE))[""].columns == ("score_0", "score_1")
    assert fed(FREE, columns=["a", "b"])[0](rows(ONE))[""].columns == ("a", "b")
    one = fed(Tensor("x", "float32", (-1,)))[0](rows(np.ones(3, np.float32)))[""]
    assert (one.columns, one.values.shape) == (("score",), (3, 1))
    open_ = Tensor("y", "float32", (-1, -1))
    assert fed(FREE, open_)[0](rows(ONE))[""].columns == ("score_0", "score_1")
    with pytest.raises(ModelError, match=r"1 columns named, m.onnx gives 2"):
        fed(FREE, open_, columns=["a"])


def test_several_outputs_are_joined_in_the_order_named() -> None:
    box, score = Tensor("boxes:0", "float32", (-1, 2)), Tensor("score", "float32", (-1, 2))
    for names, columns in (
        (["boxes:0", "score"], ("boxes_0_0", "boxes_0_1", "score_0", "score_1")),
        (["score"], ("score_0", "score_1")),
    ):
        made, _ = fed(FREE, box, score, output=names)
        out = made(rows(np.array([[1, 2], [3, 4]], np.float32)))[""]
        assert out.columns == columns
        assert out.values.tolist() == [[2, 4] * len(names), [6, 8] * len(names)]


def test_softmax_gives_probabilities() -> None:
    out = classes([[1, 2, 3], [1000, 1000, -1000], [-np.inf, 0, 0], [0, np.nan, 0]], softmax=True).values
    powers = np.exp([1, 2, 3])
    np.testing.assert_allclose(out[0], powers / powers.sum(), rtol=1e-6)
    np.testing.assert_allclose(out[1:3], [[0.5, 0.5, 0], [0, 0.5, 0.5]], rtol=1e-6)
    assert np.isnan(out[3]).all()
    assert out.dtype == np.float32


def test_argmax_and_top_choose_the_greatest_and_never_a_nan() -> None:
    values = [[1, 3, 2], [3, 1, 3], [np.nan, 1, 2], [-np.inf, np.nan, -np.inf]]
    best = classes(values, argmax=True)
    assert (best.columns, best.values.dtype) == (("label",), np.int32)
    assert best.values.ravel().tolist() == [1, 0, 2, 0]
    one = classes(values, top=1)
    assert one.columns == ("label", "score")
    assert one.values.tolist() == [[1, 3], [0, 3], [2, 2], [0, -np.inf]]
    two = classes(values[:2], top=2)
    assert two.columns == ("label_1", "score_1", "label_2", "score_2")
    assert two.values.tolist() == [[1, 3, 2, 2], [0, 3, 2, 3]]
    assert classes([[0, 0]], softmax=True, top=1, columns=["word", "p"]).values.tolist() == [[0, 0.5]]


@given(st.lists(st.lists(st.integers(-9, 9), min_size=4, max_size=4), min_size=1), st.integers(1, 4))
def test_top_is_what_sorting_gives(values: list[list[int]], count: int) -> None:
    out = classes(values, top=count).values
    for row, given_ in zip(out.tolist(), values, strict=True):
        ranked = sorted(range(4), key=lambda place: -given_[place])[:count]
        assert row[0::2] == ranked
        assert row[1::2] == [given_[place] for place in ranked]


def test_labels_name_columns_or_come_from_a_file() -> None:
    assert classes([[1, 2]], labels=["yes", "no"]).columns == ("yes", "no")
    out = classes([[1, 2]], labels="words.txt", files={"words.txt": b"yes\r\nno\r\n\n"})
    assert out.columns == ("yes", "no")
