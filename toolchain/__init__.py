"""What a bare machine lacks: Docker, a base image, Python packages, Pulumi, MinIO.

``python3 -m toolchain`` (``make tools``) provides it, ``toolchain.environment``
finds it again. Standard library only: this runs before anything is installed.
"""

import sys

if sys.version_info < (3, 11):  # before any import that needs more
    sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0])
