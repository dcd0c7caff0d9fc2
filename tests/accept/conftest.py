"""The acceptance harness as pytest sees it."""

from tests.accept.harness import (  # noqa: F401
    accept,
    pytest_pyfunc_call,
    pytest_runtest_makereport,
    pytest_sessionfinish,
)
