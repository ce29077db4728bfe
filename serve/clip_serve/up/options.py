"""Options of a run: the command line, its defaults, its checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clip_client import model_repository, ports
from clip_client.errors import InvalidInput

DATA = Path("search-data")
ARTIFACTS = Path("artifacts")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a run.

    Attributes:
        pictures: folder whose pictures are added, a list of pictures, or any input of ``clipserve embed``; None for none.
        reading: options of ``clipserve embed`` about its input.
        metadata: table of captions and fields, beside those that the folder has.
        collection: name that the pictures go by; another one where that holds vectors of another model.
        model: checkpoint to serve, as the export takes it; None for what is published, else the bundled one.
        data: the sidecar's database.
        repository: model repository; an export publishes there.
        artifacts: folder of what an export builds.
        port: of the page; the next free one where it is in use.
        watch: the collection follows the pictures until the end.
        opens: the page is shown in a browser, if there is a terminal and a display.
        log_level: least level that the servers log.
        config: file of settings, which the commands that it runs read too.
    """

    pictures: Path | str | None = None
    reading: tuple[str, ...] = ()
    metadata: Path | None = None
    collection: str = "default"
    model: str | None = None
    data: Path = DATA
    repository: Path = model_repository.FOLDER
    artifacts: Path = ARTIFACTS
    port: int = ports.SEARCH
    watch: bool = False
    opens: bool = True
    log_level: str = "warning"
    config: Path | None = None

    def __post_init__(self) -> None:
        if "://" in str(self.data) or ":/" in str(self.data):
            raise InvalidInput(f"--data {self.data} isn't a folder: 'clipserve search serve' takes an object store")
        if self.model == "":
            raise InvalidInput("--model is empty: name a checkpoint, openai/clip-vit-base-patch32, say")
        if self.metadata and not self.metadata.is_file():
            raise InvalidInput(f"--metadata {self.metadata}: there is no such file")
        if self.metadata and not self.pictures:
            raise InvalidInput("--metadata describes pictures: name their folder too")
        if self.watch and not self.pictures:
            raise InvalidInput("--watch needs a folder or list to watch: name it")

    @property
    def settings(self) -> list[str]:
        """Words that hand the file of settings on to a command."""
        return [f"--config={self.config.absolute()}"] if self.config else []

    @property
    def server_settings(self) -> list[str]:
        """Words that hand the options of all servers on to one."""
        return [*self.settings, f"--log-level={self.log_level}"]
