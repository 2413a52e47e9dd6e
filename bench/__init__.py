"""The benchmark: nginx, uvicorn and Little Bell side by side in one run, on loopback.

`make bench`, or `python -m bench --help`. Figures are printed beside their budgets and written to
RESULTS.md; none is asserted, because no two machines agree.
"""
