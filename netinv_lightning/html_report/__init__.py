"""`netinv report`: one self-contained HTML page of a run, a sweep or a folder of runs.

Data flow in one direction: directory -> contents (plain dataclasses) -> page. A page shows the
files that exist, so it also works for failed runs and new applications. No module imports torch.
"""
