"""The plugin of src/lib.rs in Python."""

import json

from wit_world import exports
from wit_world.imports import batch, edits
from wit_world.imports.types import Owner, Value_Text

from guard import guarded


class Processor(exports.Processor):
    @guarded
    def configure(self, config):
        global table
        table = json.loads(config)["table"]  # fails in configure

    @guarded
    def process(self):
        for row, name in enumerate(batch.names()):
            tag = table[name]["tag"]  # fails in process
            edits.set_attribute(Owner.SPAN, [row], "tag", Value_Text(tag))
