"""Many scans: which there are, what is done with each, in one process or several, and the page that shows them all.

Every room below but cli may be imported. Start reading at `job.py`, then `queue.py`.
"""
