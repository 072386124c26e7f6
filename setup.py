"""What pyproject.toml cannot say: the compiled codec and core, where a C compiler is.

Without Cython, mypy or a compiler, the installation goes on and the sources themselves do the work
(see `schemas.quick` and `processor.compiled`).
"""

import runpy
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = runpy.run_path("processor/compiled.py")


class BuildExtensions(build_ext):
    """Build, then say in the core's manifest what it was built from."""

    def run(self) -> None:
        """Build; no manifest where the core could not be built."""
        room = Path("processor") if self.inplace else Path(self.build_lib, "processor")
        (room / CORE["MANIFEST"]).unlink(missing_ok=True)
        super().run()
        suffix = self.get_ext_filename("x").removeprefix("x")
        if all((room / name).with_suffix(suffix).exists() for name in CORE["BUILT"]):
            CORE["write_manifest"](room)


def by_cython() -> list[Extension]:
    """The codec, and the record batches of transactions."""
    try:
        from Cython.Build import cythonize  # noqa: PLC0415 - may be missing
    except ImportError:
        return []
    sources = ["schemas/_compiled.pyx", *(f"processor/{name}" for name in CORE["BY_CYTHON"])]
    extensions = [
        Extension(
            source.removesuffix(".pyx").replace("/", "."), [source], extra_compile_args=["-O3"]
        )
        for source in sources
    ]
    built: list[Extension] = cythonize(extensions, build_dir="build")
    return built


def core() -> list[Extension]:
    """The core, by mypyc: from the very sources."""
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - may be missing
    except ImportError:
        return []
    sources = [f"processor/{name}" for name in CORE["SOURCES"]]
    return mypycify(
        ["--config-file", "pyproject.toml", *sources],
        opt_level="3",
        debug_level="0",
        group_name="processor.core",  # Where its shared library lies, and is found.
    )


EXTENSIONS = [*by_cython(), *core()]
for extension in EXTENSIONS:
    extension.optional = True  # Here, because both makers forget it.

setup(ext_modules=EXTENSIONS, cmdclass={"build_ext": BuildExtensions})
