"""Fuzzing: the servers, the capture reader and the decoders against input that nobody would send.

`make fuzz` (`python -m tests.fuzz --seconds 60`) runs it; what it finds becomes a file in `findings`, replayed by every
test run.
"""
