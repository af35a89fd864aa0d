"""ESPnet's dataset, with errors that name table and key in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet2.train.dataset import ESPnetDataset

from espnet_tse_gen.errors import UserError


class NamedErrors(Mapping[str, Any]):
    """What ``loader`` reads, where whatever cannot be read is a :class:`UserError`.

    Args:
        loader: One of ESPnet's readers.
        path: The table that it reads from.
    """

    def __init__(self, loader: Mapping[str, Any], path: str) -> None:
        self.loader, self.path = loader, path

    def __getitem__(self, key: str) -> Any:
        try:
            return self.loader[key]
        except KeyError:
            raise UserError(f"{self.path}: key '{key}' is missing; add it") from None
        except Exception as error:  # whatever libsndfile, kaldiio or ESPnet raise for a damaged file
            reason = " ".join(str(error).split()) or type(error).__name__
            file = getattr(getattr(self.loader, "loader", None), "data", {}).get(key)
            if isinstance(file, str) and not Path(file).exists():
                reason = f"{file}: no such file"
            raise UserError(
                f"{self.path}: what key '{key}' names cannot be read ({reason}); replace or remove it"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.loader)

    def __len__(self) -> int:
        return len(self.loader)


class TSEGenDataset(ESPnetDataset):
    """ESPnet's dataset over loaders with :class:`NamedErrors`."""

    def _build_loader(self, path: str, loader_type: str, keys_to_load: Any = None) -> NamedErrors:
        return NamedErrors(super()._build_loader(path, loader_type, keys_to_load), path)
