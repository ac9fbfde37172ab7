"""Many things done side by side: one queue for whatever runs many.

A process that dies loses what it ran, which another one takes up; an item at which processes die again and again is
told as lost. Ctrl-C, a request to end (SIGTERM) and a generator that is closed end the processes here with what they
run; they end, too, with the programs that they run, where the process that hands out the work is killed.

Start reading at `queue.py`; `worker.py` is what Dask runs in each process.
"""
