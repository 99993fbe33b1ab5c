"""One verb a file: each orders the steps and returns records; rules live beside, printing in cli.py."""
