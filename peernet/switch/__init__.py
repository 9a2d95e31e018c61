"""All channels of one network: who is let in, which of two connections wins, and who is dialled again."""
