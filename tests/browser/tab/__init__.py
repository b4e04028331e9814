"""The lessons in Pyodide on Node: the same Python that a browser tab has, without the browser."""
