"""What pyproject.toml cannot say: the compiled codec, built where Cython and a C compiler are.

Without either, the installation goes on and the pure codec does the work (see `schemas.quick`).
"""

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:
    EXTENSIONS: list[Extension] = []
else:
    COMPILED = Extension("schemas._compiled", ["schemas/_compiled.pyx"], extra_compile_args=["-O2"])
    EXTENSIONS = cythonize([COMPILED], build_dir="build")
    EXTENSIONS[0].optional = True  # Here, because cythonize forgets it.

setup(ext_modules=EXTENSIONS)
