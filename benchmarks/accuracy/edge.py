"""Errors of llama.cpp's and MLX's recorded rates with whole devices left out, as docs/accuracy.md gives them.

    python -m benchmarks.accuracy.edge edge_dev.parquet

Every device is left out in turn, its backend fitted to the rest (benchmarks/fit/edge.py), and predicted. Rows that
nothing answers count as 100 % error.
"""

from benchmarks.fit.edge import main

if __name__ == "__main__":
    main()
