"""A classroom on one host: JupyterHub, one lesson run by everybody at the same moment, and what each learner saw.

`make classroom`, or `python -m tests.classroom` where jupyterhub and configurable-http-proxy are installed. The quick test
here puts eight kernels side by side without the Hub.
"""
