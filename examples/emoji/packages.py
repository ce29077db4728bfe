"""The npm packages that the drawings and words come from: pinned, verified, cached.

Tarballs are read where they lie and never unpacked.
"""

import base64
import hashlib
import os
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path


class PackageError(Exception):
    """A package could not be fetched, or is not the one that was pinned."""


@dataclass(frozen=True)
class Package:
    """One npm package; `integrity` is the sha512 of its tarball, in base64."""

    name: str
    version: str
    integrity: str

    @property
    def file_name(self) -> str:
        """The name `npm pack` gives the tarball."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


TWEMOJI = Package(
    "@iconify-json/twemoji",
    "1.2.5",
    "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
)
OPENMOJI = Package(
    "openmoji",
    "17.0.0",
    "EBnYrNGdcdw+OSXmENeNE1yBNRu6tOraTmoOyUbJkTmvT/+XETp8RZLSJFzD3lrPc5N9CzsyPnRTk0Vp4UaI9w==",
)
FLUENT = Package(
    "@iconify-json/fluent-emoji",
    "1.2.7",
    "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
)
FLUENT_FLAT = Package(
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
)
FLUENT_3D = Package(
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
)
TWEMOJI_1 = Package(
    "twemoji",
    "1.4.1",
    "XtsPdDd4H9EOiZNUqHxRxYKQimCvLJqO3tHWktvQK0gAF5f+aa73XjZNrGU5zG0q5SqEljEkKYPjBMgw4ScQAQ==",
)
EMOJIONE_2 = Package(
    "@iconify-json/emojione",
    "1.2.3",
    "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
)
EMOJIONE_1 = Package(
    "@iconify-json/emojione-v1",
    "1.2.3",
    "UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww==",
)
FIREFOX = Package(
    "@iconify-json/fxemoji",
    "1.2.2",
    "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
)
STREAMLINE = Package(
    "@iconify-json/streamline-emojis",
    "1.2.4",
    "iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
)
NOTO = Package(
    "@iconify-json/noto",
    "1.2.9",
    "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
)
NOTO_SPRITES = Package(
    "@svgmoji/noto",
    "3.2.0",
    "JgtNciB06hMDI1Pb1N2IgLh44XRMZUUNwBANzjY5jXTPqOCu1A1VA35ENvUsRhEUZOm8I+hbdAEHkwMVqxLeIQ==",
)
UNICODE = Package(
    "unicode-emoji-json",
    "0.9.0",
    "HdrQW/7SdbXUsTd8uTATv7LvQJkCSgbAgRCDCtOhQ6xn3EAx+xZHQtRniOXWJK3ywIqPegkNhP4U4EbuFsiQng==",
)
EMOJILIB = Package(
    "emojilib",
    "4.0.3",
    "KbWiYre9aRSaPbHrHZIz9zmoM+21LAsK1VFJtnTh1VCtWE/rNMDviGhQTmselFl95dhqtGlY22iH0leG5BuW0g==",
)


def cache_folder() -> Path:
    """Return the folder that keeps tarballs and decoded drawings between runs."""
    return user_cache_path("clipserve") / "emoji"


def open_package(package: Package) -> tarfile.TarFile:
    """Open the verified tarball for reading.

    Raises:
        PackageError: npm failed, or the tarball has another hash.
    """
    return tarfile.open(fetch(package))


def fetch(package: Package) -> Path:
    """Return the tarball's path in the cache; download it on first use."""
    path = cache_folder() / package.file_name
    if not path.exists():
        _download(package, path)
    return path


def _download(package: Package, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        downloaded = _npm_pack(package, Path(folder))
        _verify(package, downloaded)
        os.replace(downloaded, path)


def _npm_pack(package: Package, folder: Path) -> Path:
    wanted = f"{package.name}@{package.version}"
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), wanted]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PackageError("npm is not installed: install Node.js, which brings it") from error
    except subprocess.CalledProcessError as error:
        raise PackageError(f"npm pack {wanted} failed: {error.stderr.strip()}") from error
    return folder / package.file_name


def _verify(package: Package, path: Path) -> None:
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if digest != package.integrity:
        raise PackageError(
            f"{package.file_name} has sha512 {digest}, expected {package.integrity}: "
            "not the pinned package, so it was thrown away"
        )
