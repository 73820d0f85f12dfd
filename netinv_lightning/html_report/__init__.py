"""`netinv report`: one self-contained HTML page of a run, a sweep or a folder of runs.

Data flows one way: a directory -> contents (plain dataclasses) -> page. What a page shows is decided by the files that are
there, so a run that failed, or is of an application that nobody foresaw, gives a page too. Imports are light: no torch.
"""
