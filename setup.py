"""Packaging of NORA: what a wheel holds, and what it needs."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """Read the version where it is written, without importing the package."""
    text = (HERE / "nora" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("nora/__init__.py has no __version__")
    return match[1]


setup(
    name="nora-registry",
    version=version(),
    description="A pull-through cache and registry for container images",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: System :: Archiving :: Mirroring",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # `twisted.plugins` is no package of ours: our one file joins Twisted's, so neither folder has an __init__.py.
    packages=[*find_packages(include=["nora", "nora.*"]), "twisted.plugins"],
    # Said outright, so that `pip install -e` puts the checkout itself on the path; it would else map single
    # packages, and `twistd` would not find the plugin.
    package_dir={"": "."},
    package_data={"nora": ["py.typed"], "nora.web.ui": ["openapi.json", "templates/*.html", "static/*"]},
    include_package_data=False,
    zip_safe=False,
    entry_points={"console_scripts": ["nora = nora.cli:main"]},
    install_requires=[
        "twisted[tls]>=24.7",
        "treq>=24.9",
        "klein>=24.8",
        "werkzeug>=3.1,<4",  # klein sets no upper bound
        "prometheus-client>=0.20",
        "service-identity>=24.1",
        "pyopenssl>=25.2",  # takes the objects of cryptography, and can clear a mode
        "cryptography>=42",
        "toml>=0.10.2",
        "attrs>=24.1",
        "jinja2>=3.1,<4",  # the pages under /ui: it escapes whatever it is given
        "markupsafe>=2.1",  # the charts in them, which are markup by type
        "bcrypt>=4.0",  # checks passwords of htpasswd files; Python's own crypt is gone, and never knew it everywhere
        "pyjwt>=2.8,<3",  # the tokens of /v2/token
        'tomli>=2.0; python_version < "3.11"',
    ],
    extras_require={
        "test": [
            "pytest>=8.2,<10",
            "coverage[toml]>=7.16,<8",  # its wheel holds the hook that measures subprocesses
            "hypothesis>=6.100,<7",
            "jsonschema>=4.23,<5",  # holds the answers of /api to their description
            "selenium>=4.25,<5",  # looks at the pages with a browser
            "oras>=0.2.43,<0.3",  # pushes artifacts and attaches them, as its users do
            "setuptools>=77",  # the tests build a wheel
        ],
        # Exact: what a newer one of these says about unchanged code must not break a build.
        "check": [
            "ruff==0.17.6",
            "mypy==2.4.1",
            "mypy-zope==1.0.17",
            "import-linter==2.15",
            "types-toml==0.10.8.20260518",
            "tomli>=2.0",  # the types are checked for 3.10, which needs it
        ],
    },
)
