"""Reads the plugin's settings. What is wrong is told with its path, such as
``set.kee: unknown key `kee` ``."""

import json

from guard import Rejection

HEALTH_CHECKS = ["/healthz", "/livez", "/readyz", "grpc.health.v1.Health/Check"]


class Settings:
    def __init__(self, text):
        fields = object_of(json.loads(text.strip() or "{}") or {}, "", ["health_checks", "set"])
        checks = fields.get("health_checks", HEALTH_CHECKS)
        if not isinstance(checks, list):
            raise wrong("health_checks", checks, "a list")
        # Paths and methods that only probes call.
        self.health_checks = {text_of(check, f"health_checks[{number}]") for number, check in enumerate(checks)}
        # The attribute that every remaining span gets: its key and its value, or nothing.
        self.set = None
        if fields.get("set") is not None:
            attribute = object_of(fields["set"], "set", ["key", "value"])
            for name in ["key", "value"]:
                if name not in attribute:
                    raise Rejection(f"set: missing field `{name}`")
            self.set = (text_of(attribute["key"], "set.key"), text_of(attribute["value"], "set.value"))
            if not self.set[0]:
                raise Rejection("set.key: is empty")


def object_of(value, path, names):
    if not isinstance(value, dict):
        raise wrong(path, value, "an object")
    for name in value:
        if name not in names:
            at = f"{path}.{name}" if path else name
            raise Rejection(f"{at}: unknown key `{name}`\nhint: known here: " + ", ".join(f"`{name}`" for name in names))
    return value


def text_of(value, path):
    if not isinstance(value, str):
        raise wrong(path, value, "a string")
    return value


def wrong(path, value, expected):
    at = f"{path}: " if path else ""
    return Rejection(f"{at}invalid type: `{json.dumps(value)}`, expected {expected}")
