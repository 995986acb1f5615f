"""What a bare machine lacks: Docker, a base image, Python packages, Pulumi, MinIO.

``python3 -m toolchain`` (``make tools``) provides it, ``toolchain.environment``
finds it again. Standard library only: this runs before anything is installed.
"""

import importlib.util
import sys

if sys.version_info < (3, 11):  # before any import that needs more
    sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0])
if importlib.util.find_spec("concurrent") is None:  # Debian's python3-minimal
    sys.exit("Python's standard library is not complete: apt-get install python3 python3-venv")
