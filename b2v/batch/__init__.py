"""Many inputs for one command: `finding` lists them, `placing` says where their outputs go."""

from b2v.batch.finding import Input, expand, is_pattern, is_several, parse_shard, take_shard
from b2v.batch.placing import (
    check_folders,
    is_there,
    names_folder,
    output_folder,
    place,
    safe_name,
    to_file,
)

__all__ = [
    "Input",
    "check_folders",
    "expand",
    "is_pattern",
    "is_several",
    "is_there",
    "names_folder",
    "output_folder",
    "parse_shard",
    "place",
    "safe_name",
    "take_shard",
    "to_file",
]
