"""Tests."""

import sys

# jsonschema, which nbformat brings, does without this package; importing it compiles a grammar, for a second and more in
# every process that reads a notebook.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
