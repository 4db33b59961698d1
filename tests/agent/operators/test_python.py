from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeflow_agent.core.batch import Batch
from edgeflow_agent.core.errors import AuthorError
from edgeflow_proto.pipeline.kinds.steps.python import Python
from tests.support.steps import alone, assert_indifferent, cut, keyed, rows, run, sizes, step

BATCH = rows(np.array([[1, 2], [3, 4], [5, 6]], np.float32))


def authored(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def result_of(folder: Path, body: str, **options: object) -> Batch:
    """What ``def f(rows): return <body>`` makes of the batch."""
    authored(folder, code=f"import numpy as np\n\ndef f(rows):\n    return {body}\n")
    return step(Python(function="code.f", **options), folder=folder)(BATCH)[""]  # type: ignore[arg-type]


@given(keyed(), sizes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_results_do_not_depend_on_how_rows_are_cut(tmp_path: Path, batch: Batch, sizes: list[int]) -> None:
    authored(tmp_path, code="def f(rows):\n    return rows * 2\n")
    made = step(Python(function="code.f"), folder=tmp_path)
    came = assert_indifferent(lambda: alone(made), batch, sizes)
    assert came["out"].columns == ("step_0", "step_1")


def test_numbers_are_one_column_named_after_the_step(tmp_path: Path) -> None:
    out = result_of(tmp_path, "rows.sum(axis=1)")
    assert (out.values.tolist(), out.columns) == ([[3], [7], [11]], ("step",))


def test_declared_columns_shape_and_dtype_are_given(tmp_path: Path) -> None:
    out = result_of(tmp_path, "rows[:, ::-1].astype('float64')", columns=["b", "a"])
    assert (out.values.dtype, out.columns) == (np.float32, ("b", "a"))
    out = result_of(tmp_path, "rows[:, :, None]", shape=(2, 1), dtype="float64")
    assert (out.values.dtype, out.values.shape, out.columns) == (np.float64, (3, 2, 1), None)


@pytest.mark.parametrize(
    ("body", "options", "why"),
    [
        ("rows[:2]", {}, r"code.f gave shape \[2, 2\] for 3 rows"),
        ("rows.sum()", {}, r"code.f gave shape \[\] for 3 rows"),
        ("None", {}, r"code.f gave shape \[\] for 3 rows"),
        ("rows", {"columns": ["a"]}, r"gave rows of shape \[2\], not \[1\]"),
        ("rows[:, 0]", {"shape": (2, 2)}, r"gave rows of shape \[1\], not \[2, 2\]"),
        ("rows", {"dtype": "int8"}, "gave float32, not int8"),
        ("rows.astype('U8')", {}, "gave <U8, not float32"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, body: str, options: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        result_of(tmp_path, body, **options)


def test_rows_keep_the_shape_of_the_first_ones(tmp_path: Path) -> None:
    authored(tmp_path, code="def f(rows):\n    return rows[:, : int(rows[0, 0])]\n")
    made = step(Python(function="code.f"), folder=tmp_path)
    made(BATCH)
    with pytest.raises(ValueError, match=r"shape \[2\], not \[1\]"):
        made(BATCH.take(slice(1, 2)))


def test_the_authors_line_is_named(tmp_path: Path) -> None:
    authored(
        tmp_path,
        features="from helper import inner\n\ndef f(rows):\n    return inner(rows)\n",
        helper="import json\n\ndef inner(rows):\n    return json.loads('{')\n",
    )
    made = step(Python(function="features.f"), folder=tmp_path)
    with pytest.raises(AuthorError, match=r"^helper.py:4: JSONDecodeError: ") as raised:
        made(BATCH)
    assert type(raised.value.__cause__).__name__ == "JSONDecodeError"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "import nonexistent_module\n\ndef f(rows): ...\n",
            "code.py:1: ModuleNotFoundError: No module named",
        ),
        ("def f(rows): ...\nf.x.y\n", "code.py:2: AttributeError"),
        ("def f(rows): ...\nraise SystemExit(0)\n", "code.py:2: SystemExit: 0"),
        ("def f(rows): ...\nimport other\n", "other.py:1: SyntaxError"),
        ("def f(rows): ...\nf = 3\n", "code.py defines no function or class 'f'"),
    ],
)
def test_what_goes_wrong_while_importing_is_named(tmp_path: Path, text: str, why: str) -> None:
    authored(tmp_path, code=text, other="def (:\n")
    with pytest.raises(ValueError, match=why):
        step(Python(function="code.f"), folder=tmp_path)
    assert "code" not in sys.modules or sys.modules["code"].__file__ != str(tmp_path / "code.py")


def test_a_step_that_exits_has_failed(tmp_path: Path) -> None:
    with pytest.raises(AuthorError, match=r"code.py:4: SystemExit: 0"):
        result_of(tmp_path, "exit(0)")


def test_rows_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(AuthorError, match=r"code.py:4: ValueError: .*read-only"):
        result_of(tmp_path, "rows.sort()")
    assert BATCH.values.flags.writeable


def test_a_bundle_stays_as_it_was(tmp_path: Path) -> None:
    authored(tmp_path, code="import helper\n\ndef f(rows):\n    return rows\n", helper="")
    step(Python(function="code.f"), folder=tmp_path)(BATCH)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code.py", "helper.py"]


def test_pipelines_do_not_get_each_others_modules(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        authored(
            folder,
            code="import common\n\ndef f(rows):\n    return rows * common.N\n",
            common=f"N = {number}\n",
        )
        out = step(Python(function="code.f"), folder=folder)(BATCH)[""]
        assert out.values[0, 0] == number
    assert str(tmp_path / "1") not in sys.path


def test_steps_of_a_pipeline_share_a_module(tmp_path: Path) -> None:
    authored(tmp_path, shared="N = []\n\ndef f(rows):\n    N.append(1)\n    return rows * len(N)\n")
    one, two = (step(Python(function="shared.f"), folder=tmp_path) for _ in range(2))
    one(BATCH)
    assert two(BATCH)[""].values[0, 0] == 2


def test_a_module_named_like_a_library_shadows_it_for_nobody(tmp_path: Path) -> None:
    import statistics

    authored(tmp_path, statistics="def f(rows):\n    return rows + 1\n")
    assert step(Python(function="statistics.f"), folder=tmp_path)(BATCH)[""].values[0, 0] == 2
    assert sys.modules["statistics"] is statistics


def test_modules_may_lie_in_packages(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.py").write_text(
        "from parts.two import N\n\ndef f(rows):\n    return rows * N\n"
    )
    (tmp_path / "parts" / "two.py").write_text("N = 7\n")
    assert step(Python(function="parts.one.f"), folder=tmp_path)(BATCH)[""].values[0, 0] == 7


COUNTER = """
import numpy as np


class Total:
    def __init__(self, start=0.0):
        self.totals = {}
        self.start = start

    def __call__(self, rows, key):
        out = np.empty(len(rows), np.float32)
        for i, (row, k) in enumerate(zip(rows[:, 0].tolist(), key.tolist())):
            self.totals[k] = out[i] = self.totals.get(k, self.start) + row
        return out

    def gap(self):
        self.totals.clear()

    def state(self):
        return {k: float(v) for k, v in self.totals.items()}

    def restore(self, state):
        self.totals = dict(state)


class Forgetful:
    def __init__(self):
        self.seen = 0

    def __call__(self, rows):
        self.seen += len(rows)
        return np.full(len(rows), self.seen, np.float32)


class Odd(Forgetful):
    def state(self):
        return object()


class Broken:
    def __init__(self):
        raise LookupError("nothing here")


class Idle:
    pass


def later(rows, t):
    return t / 1e6
"""
whole = st.integers(-9, 9).map(float)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    (folder / "objects.py").write_text(COUNTER)
    return folder


@given(batch=keyed(whole), sizes=sizes)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_object_remembers_over_restarts(objects: Path, batch: Batch, sizes: list[int]) -> None:
    options = Python(function="objects.Total", params={"start": 3.0}, columns=["total"])
    out = assert_indifferent(lambda: alone(step(options, folder=objects)), batch, sizes)["out"]
    totals: dict[int, float] = {}
    for row, key in enumerate(batch.key.tolist()):
        totals[key] = totals.get(key, 3.0) + float(batch.values[row, 0])
        assert out.values[row, 0] == totals[key]


def test_an_object_hears_of_gaps(objects: Path) -> None:
    runtime = alone(step(Python(function="objects.Total", columns=["total"]), folder=objects))
    runtime.push("in", rows(np.float32([[5, 0]])))
    runtime.gap("in")
    ((_, out),) = runtime.push("in", rows(np.float32([[2, 0]])))
    assert out.values.tolist() == [[2]]


def test_an_object_without_a_state_begins_anew(objects: Path) -> None:
    options = Python(function="objects.Forgetful", columns=["seen"])
    parts = cut(rows(np.zeros((4, 2), np.float32)), [2])
    came = run(lambda: alone(step(options, folder=objects)), parts, restarts=True)
    assert came["out"].values[:, 0].tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("name", "what"),
    [("Odd", r"what objects.Odd.state\(\) gives is not plain data"), ("Idle", "objects.Idle has no __call__"),
     ("Broken", r"objects.py:\d+: LookupError: nothing here")],
)  # fmt: skip
def test_an_object_that_cannot_be_used_is_told(objects: Path, name: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        step(Python(function=f"objects.{name}"), folder=objects)


def test_a_function_may_ask_for_the_times(objects: Path) -> None:
    operator = step(Python(function="objects.later", columns=["ms"], dtype="float64"), folder=objects)
    assert operator(rows(np.zeros((3, 2), np.float32)))[""].values[:, 0].tolist() == [0, 1, 2]
