// Reads the plugin's settings. What is wrong is told with its path, such as
// "set.kee: unknown key `kee`".

import { Rejection } from "./guard.js";

const HEALTH_CHECKS = ["/healthz", "/livez", "/readyz", "grpc.health.v1.Health/Check"];

export function readSettings(text) {
  const fields = objectOf(JSON.parse(text.trim() || "{}") ?? {}, "", ["health_checks", "set"]);
  const checks = fields.health_checks === undefined ? HEALTH_CHECKS : fields.health_checks;
  if (!Array.isArray(checks)) throw wrong("health_checks", checks, "a list");
  return {
    // Paths and methods that only probes call.
    healthChecks: new Set(checks.map((check, number) => textOf(check, `health_checks[${number}]`))),
    // The attribute that every remaining span gets, or null.
    set: attributeOf(fields.set ?? null),
  };
}

function attributeOf(value) {
  if (value === null) return null;
  objectOf(value, "set", ["key", "value"]);
  for (const name of ["key", "value"]) {
    if (!Object.hasOwn(value, name)) throw new Rejection(`set: missing field \`${name}\``);
  }
  const attribute = { key: textOf(value.key, "set.key"), value: textOf(value.value, "set.value") };
  if (attribute.key === "") throw new Rejection("set.key: is empty");
  return attribute;
}

function objectOf(value, path, names) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(path, value, "an object");
  const known = names.map((name) => `\`${name}\``).join(", ");
  for (const name of Object.keys(value)) {
    const at = path ? `${path}.${name}` : name;
    if (!names.includes(name)) throw new Rejection(`${at}: unknown key \`${name}\`\nhint: known here: ${known}`);
  }
  return value;
}

function textOf(value, path) {
  if (typeof value !== "string") throw wrong(path, value, "a string");
  return value;
}

function wrong(path, value, expected) {
  const at = path ? `${path}: ` : "";
  return new Rejection(`${at}invalid type: \`${JSON.stringify(value)}\`, expected ${expected}`);
}
