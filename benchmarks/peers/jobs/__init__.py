"""The jobs/ of the project that Jobline, stock RQ and the limit run."""
