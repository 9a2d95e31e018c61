"""The home folder: which files there are, and how they are saved, read and set aside."""
