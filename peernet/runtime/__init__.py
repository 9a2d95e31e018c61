"""The process: time, randomness, greenlets, threads, logs, and parts that start and stop in order."""
