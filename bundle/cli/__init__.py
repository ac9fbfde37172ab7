"""The command `bida`: one file a command, with its options and what it does. Start reading at `parser.py`."""
