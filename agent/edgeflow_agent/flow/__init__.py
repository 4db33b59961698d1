"""The way of rows through `io` and a worker: taken in, run, committed, recorded, acted upon."""
