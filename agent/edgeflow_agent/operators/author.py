"""The author's Python: modules beside a pipeline, loaded, and named when they raise."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeflow_agent.core.errors import AuthorError

_entered: list[str] = []  # the folder whose modules import each other now: that of one pipeline


def load_function(folder: Path, module: str, name: str) -> Callable[..., Any]:
    """Return a function of ``<module>.py`` in `folder`; raises ValueError, or AuthorError for its own."""
    function = getattr(_module(folder, module), name, None)
    if not callable(function):
        raise ValueError(f"{module}.py defines no function or class '{name}'")
    return function  # type: ignore[no-any-return]


def blamed(error: BaseException, folder: Path) -> AuthorError:
    """Return an error that names the innermost place in the author's files."""
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno or 1))
    what = f"{type(error).__name__}: {getattr(error, 'msg', error)}"
    for file, line in reversed(places):
        if Path(file).is_relative_to(folder):
            return AuthorError(f"{Path(file).relative_to(folder)}:{line}: {what}")
    return AuthorError(what)


def _module(folder: Path, name: str) -> ModuleType:
    """Return a module of `folder`; steps that name the same one share it."""
    _enter(str(folder))
    path = folder / (name.replace(".", "/") + ".py")
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = spec_from_file_location(name, path)
    if spec is None or not path.is_file():
        raise ValueError(f"no file {path.relative_to(folder)} beside the pipeline")
    module = module_from_spec(spec)
    sys.modules.setdefault(name, module)  # a library of that name stays what it is
    _execute(module, folder)
    return module


def _enter(folder: str) -> None:
    """Let modules of this folder import each other, and none of the folder before."""
    if _entered == [folder]:
        return
    for before in _entered:
        sys.path.remove(before)
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(f"{before}/"):
                del sys.modules[name]
    _entered[:] = [folder]
    sys.path.insert(0, folder)


def _execute(module: ModuleType, folder: Path) -> None:
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a bundle stays as it was signed
    try:
        module.__spec__.loader.exec_module(module)  # type: ignore[union-attr]
    except (Exception, SystemExit) as error:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]
        raise blamed(error, folder) from error
    finally:
        sys.dont_write_bytecode = written
