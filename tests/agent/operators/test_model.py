from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch, Values
from edgeflow_agent.core.ports import Feeds, ModelError, Operator, StepContext
from edgeflow_agent.operators.model import MAX_ROWS, ModelStep, dequantised, quantised
from edgeflow_proto.bundle import Signature, Tensor
from edgeflow_proto.pipeline.flow import Flow
from edgeflow_proto.pipeline.kinds.steps.model import Model
from tests.support.onnx_files import linear
from tests.support.steps import XY, alone, assert_indifferent, keyed, rows, sizes, step

WEIGHTS = np.array([[1, 10, 100], [2, 20, 200]], np.float32)


@dataclass
class Recorded:
    """A model that doubles what it is fed and remembers how it was."""

    signature: Signature
    provider: str = "cpu"
    calls: list[Values] = field(default_factory=list)

    def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[Values]:
        (rows,) = feeds.values()
        self.calls.append(rows)
        return [rows * 2]


def fed(tensor: Tensor, given: Tensor | None = None, **options: object) -> tuple[Operator, Recorded]:
    """A model step over a recorded model."""
    model = Recorded(Signature((tensor,), (given or tensor,)))
    kind = Model(file="m.onnx", **options)  # type: ignore[arg-type]
    context = StepContext("score", {"in": Flow()}, {"": Flow()}, Path("nowhere"), lambda path, setup: model)
    return ModelStep(kind, context), model


FREE = Tensor("x", "float32", (-1, 2))


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
    assert [len(call) for call in model.calls] == [MAX_ROWS, MAX_ROWS, 3]


def test_a_fixed_batch_and_large_rows_go_one_by_one() -> None:
    for tensor in (Tensor("x", "float32", (1, 2)), Tensor("x", "float32", (-1, 2048))):
        made, model = fed(tensor)
        made(rows(np.ones((3, tensor.shape[1]), np.float32)))
        assert [len(call) for call in model.calls] == [1, 1, 1]


def test_rows_are_reshaped_to_the_model() -> None:
    made, model = fed(Tensor("x", "float32", (-1, 49, 10, 1)))
    made(rows(np.ones((2, 490), np.float32)))
    assert model.calls[0].shape == (2, 49, 10, 1)
    made, model = fed(Tensor("x", "float32", (-1, -1, 3)))
    made(rows(np.ones((2, 12), np.float32)))
    made(rows(np.ones((2, 5, 3), np.float32)))
    assert [call.shape for call in model.calls] == [(2, 4, 3), (2, 5, 3)]


def test_rows_that_do_not_fit_are_refused() -> None:
    made, _ = fed(Tensor("x", "float32", (-1, 4)))
    with pytest.raises(ValueError, match=r"m.onnx takes \[-1, 4\] float32, but is fed rows of shape \[3\]"):
        made(rows(np.ones((2, 3), np.float32)))
    with pytest.raises(ValueError, match=r"m.onnx takes float32, but is fed float64"):
        made(rows(np.ones((2, 4))))


def test_columns_are_those_given_or_named_after_the_step() -> None:
    assert fed(FREE)[0](rows(np.ones((1, 2), np.float32)))[""].columns == ("score_0", "score_1")
    assert fed(FREE, columns=["a", "b"])[0](rows(np.ones((1, 2), np.float32)))[""].columns == ("a", "b")
    one = fed(Tensor("x", "float32", (-1,)))[0](rows(np.ones(3, np.float32)))[""]
    assert (one.columns, one.values.shape) == (("score",), (3, 1))
    with pytest.raises(ValueError, match=r"1 columns named, m.onnx gives 2"):
        fed(FREE, columns=["a"])[0](rows(np.ones((1, 2), np.float32)))


QUANTISED = Tensor("q", "int8", (-1, 2), scale=0.5, zero_point=-10)


def test_floats_are_quantised_and_results_come_back_as_floats() -> None:
    made, model = fed(QUANTISED, Tensor("r", "int8", (-1, 2), scale=0.25, zero_point=4))
    out = made(rows(np.array([[0.25, 0.75], [1000, -1000]], np.float32)))[""]
    # Half to even: 0.5 → 0, 1.5 → 2, then the zero point; the rest is clipped.
    assert model.calls[0].tolist() == [[-10, -8], [127, -128]]
    assert model.calls[0].dtype == np.int8
    doubled = np.array([[-20, -16], [-2, 0]], np.int8)  # 254 and -256 wrap in the model, not in the step
    np.testing.assert_array_equal(out.values, (doubled.astype(np.float32) - 4) * np.float32(0.25))
    assert out.values.dtype == np.float32


def test_rows_of_the_models_own_dtype_are_fed_as_they_are() -> None:
    made, model = fed(QUANTISED)
    made(rows(np.array([[3, -4]], np.int8)))
    assert model.calls[0].tolist() == [[3, -4]]


def test_nan_is_not_quantised_into_a_number() -> None:
    with pytest.raises(ValueError, match="NaN has no quantised form"):
        fed(QUANTISED)[0](rows(np.array([[1, np.nan]], np.float32)))


@given(st.floats(0.001, 10), st.integers(-128, 127), st.lists(st.integers(-128, 127), min_size=1))
def test_quantising_undoes_dequantising(scale: float, zero_point: int, stored: list[int]) -> None:
    tensor = Tensor("q", "int8", (-1,), scale, zero_point)
    values = np.array(stored, np.int8)
    np.testing.assert_array_equal(quantised(dequantised(values, tensor), tensor), values)


@pytest.mark.parametrize(
    ("inputs", "output", "why"),
    [
        ((FREE, FREE), FREE, "has 2 inputs; one is fed"),
        ((Tensor("x", "float32", ()),), FREE, "x is a single value, without a batch dimension"),
        ((FREE,), Tensor("y", "float32", ()), "y is a single value, without a batch dimension"),
        ((Tensor("x", "float16", (-1, 2)),), FREE, "x is of type float16, which rows cannot be"),
        ((Tensor("x", "float32", (8, 2)),), FREE, "takes 8 rows at a time; one or any number is possible"),
    ],
)
def test_models_that_cannot_be_fed_are_refused(inputs: tuple[Tensor, ...], output: Tensor, why: str) -> None:
    model = Recorded(Signature(inputs, (output,)))
    context = StepContext("score", {"in": XY}, {"": Flow()}, Path("nowhere"), lambda path, setup: model)
    with pytest.raises(ModelError, match=f"m.onnx.*{why}"):
        ModelStep(Model(file="m.onnx"), context)


def test_a_model_that_gives_another_number_of_rows_is_refused() -> None:
    @dataclass
    class Short(Recorded):
        def run(self, feeds: Feeds, outputs: Sequence[str]) -> list[Values]:
            return [rows[:1] for rows in feeds.values()]

    model = Short(Signature((FREE,), (FREE,)))
    context = StepContext("score", {"in": XY}, {"": Flow()}, Path("nowhere"), lambda path, setup: model)
    with pytest.raises(ValueError, match=r"m.onnx gave 1 rows for 2"):
        ModelStep(Model(file="m.onnx"), context)(rows(np.ones((2, 2), np.float32)))
