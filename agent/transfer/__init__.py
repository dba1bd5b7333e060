"""The transfer engine: parts of many files at once, under one budget, resumable and verified."""
