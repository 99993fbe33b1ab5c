"""The report: one HTML file that shows everything a workspace knows. Pure; commands/report.py gathers."""
