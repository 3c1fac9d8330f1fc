"""Start Jupyter with the notebooks of this folder: python start.py"""

import subprocess
import sys

from install import ENVIRONMENT, HERE, python_of, settings

if __name__ == "__main__":
    python = python_of(ENVIRONMENT) if ENVIRONMENT.exists() else sys.executable
    command = [str(python), "-m", "jupyterlab", str(HERE / "notebooks"), *sys.argv[1:]]
    sys.exit(subprocess.run(command, env=settings()).returncode)
