"""Finding the application that `module:object` names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstore.cli.errors import DEBUG_VARIABLE, WrongNameError, raised_at
from eventstore.errors import EventStoreError
from eventstore.runtime import Application

if TYPE_CHECKING:
    from types import ModuleType


def load_application(target: str) -> Application:
    """Import the application that `module:object` names; modules in the current directory are found too.

    Raises:
        WrongNameError: The target is not written so, cannot be imported, or names something else.
    """
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise WrongNameError(f"{target!r} names no application: write module:object, for example shop.main:app")
    module = _imported(module_name)
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, Application):
        what = "nothing" if found is None else f"a {type(found).__qualname__}"
        raise WrongNameError(
            f"{target!r} names {what}, not an eventstore.Application; {_applications_in(module, module_name)}"
        )
    return found


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except EventStoreError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise WrongNameError(
                f"there is no module {error.name!r}: run in the folder that holds it, install it, or mend --app, "
                "EVENTSTORE_APP or [tool.eventstore]"
            ) from None
        raise WrongNameError(f"importing {name!r} needs the module {error.name!r}, which is not installed") from error
    except Exception as error:
        raise WrongNameError(
            f"importing {name!r} raised {raised_at(error)}: mend it ({DEBUG_VARIABLE}=1 shows the traceback)"
        ) from error


def _applications_in(module: ModuleType, name: str) -> str:
    known = [f"{name}:{key}" for key, value in vars(module).items() if isinstance(value, Application)]
    return f"there is {', '.join(known)}" if known else f"{name!r} has no application"
