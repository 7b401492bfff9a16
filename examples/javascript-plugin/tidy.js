// A plugin that most teams want first: it drops health checks, sets one
// attribute on every span that stays and masks e-mail addresses.

import { names, spanCount, textAttribute } from "vespid:plugin/batch@0.1.0";
import { dropSpans, setAttribute } from "vespid:plugin/edits@0.1.0";
import { compile, replaceMatches } from "vespid:plugin/patterns@0.1.0";

import { guarded } from "./guard.js";
import { readSettings } from "./settings.js";

// The attributes in which instrumentations put a request's path.
const PATH_KEYS = ["url.path", "http.target", "http.route"];

const OWNERS = ["span", "resource", "scope", "event", "link"];

// An e-mail address, in any script. The collector searches for it.
const ADDRESS = String.raw`[-\w.%+\x{80}-\x{10ffff}]+@[-\w\x{80}-\x{10ffff}]+(\.[-\w\x{80}-\x{10ffff}]+)+`;

let settings;
let address;

export const processor = {
  configure: guarded((config) => {
    settings = readSettings(config);
    address = compile(ADDRESS);
  }),

  process: guarded(() => {
    dropSpans(healthChecks(), "health check");
    if (settings.set) {
      const { key, value } = settings.set;
      const rows = Array.from({ length: spanCount() }, (_, row) => row);
      setAttribute("span", rows, key, { tag: "text", val: value });
    }
    for (const owner of OWNERS) replaceMatches(owner, [address], "****");
  }),
};

// The rows whose path, or the last word of whose name, only probes call.
function healthChecks() {
  const checks = settings.healthChecks;
  const rows = new Set();
  // A server names a span `GET /healthz` or after the method alone.
  names().forEach((name, row) => {
    if (checks.has(name.slice(name.lastIndexOf(" ") + 1))) rows.add(row);
  });
  for (const key of PATH_KEYS) {
    const column = textAttribute("span", key);
    column.values.forEach((path, at) => {
      if (checks.has(path.split("?", 1)[0])) rows.add(column.rows[at]);
    });
  }
  return [...rows];
}
