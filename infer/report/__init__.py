"""The report of a run: tables, plots, images, the analysis of its file, and report.html."""
