"""Results of ``python -m probes run``: found, opened, drawn, compared and written as one page of HTML."""
