"""What is measured beside Jobline, served as Jobline is, with the same settings: `python -m as_jobline module:app`."""

import sys

from app.api.server import serve

if __name__ == "__main__":
    serve(sys.argv[1])
