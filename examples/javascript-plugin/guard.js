// Turns what a plugin throws into a rejection. What leaves an export uncaught
// reaches the collector without its place, and as a bare trap when it is no Error.

// An error whose text says it all: it reaches the log as it stands.
export class Rejection extends Error {}

// An export is to throw the text that `result<_, string>` holds.
export function guarded(run) {
  return (...args) => {
    try {
      run(...args);
    } catch (error) {
      throw described(error);
    }
  };
}

// Such as `TypeError: not a function at tidy.js:23`, the innermost place.
function described(error) {
  if (error instanceof Rejection) return error.message;
  if (!(error instanceof Error)) return typeof error === "string" ? error : `thrown: ${shown(error)}`;
  const place = /[^\s(/]+\.m?js:\d+/.exec(error.stack ?? "");
  return `${error.name}: ${error.message}` + (place ? ` at ${place[0]}` : "");
}

function shown(value) {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
