"""A plugin that most teams want first: it drops health checks, sets one
attribute on every span that stays and masks e-mail addresses."""

from wit_world import exports
from wit_world.imports import batch, edits, patterns
from wit_world.imports.types import Owner, Value_Text

from guard import guarded
from settings import Settings

# The attributes in which instrumentations put a request's path.
PATH_KEYS = ["url.path", "http.target", "http.route"]

# An e-mail address, in any script. The collector searches for it.
ADDRESS = r"[-\w.%+\x{80}-\x{10ffff}]+@[-\w\x{80}-\x{10ffff}]+(\.[-\w\x{80}-\x{10ffff}]+)+"


class Processor(exports.Processor):
    """The collector makes one instance for each of its workers."""

    @guarded
    def configure(self, config):
        global settings, address
        settings = Settings(config)
        address = patterns.compile(ADDRESS)

    @guarded
    def process(self):
        edits.drop_spans(health_checks(), "health check")
        if settings.set:
            key, value = settings.set
            edits.set_attribute(Owner.SPAN, list(range(batch.span_count())), key, Value_Text(value))
        for owner in Owner:
            patterns.replace_matches(owner, [address], "****")


def health_checks():
    """The rows whose path, or the last word of whose name, only probes call."""
    checks = settings.health_checks
    # A server names a span `GET /healthz` or after the method alone.
    rows = {row for row, name in enumerate(batch.names()) if name.rsplit(" ", 1)[-1] in checks}
    for key in PATH_KEYS:
        column = batch.text_attribute(Owner.SPAN, key)
        rows.update(row for row, path in zip(column.rows, column.values) if path.split("?", 1)[0] in checks)
    return list(rows)
