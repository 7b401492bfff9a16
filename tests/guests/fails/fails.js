// The plugin of src/lib.rs in JavaScript; a name with an entry of null throws what is no Error.

import { names } from "vespid:plugin/batch@0.1.0";
import { setAttribute } from "vespid:plugin/edits@0.1.0";

import { guarded } from "./guard.js";

let table;

export const processor = {
  configure: guarded((config) => {
    table = JSON.parse(config).table;
    Object.keys(table); // fails in configure
  }),

  process: guarded(() => {
    names().forEach((name, row) => {
      if (table[name] === null) throw { code: 3 };
      const tag = table[name].tag; // fails in process
      setAttribute("span", [row], "tag", { tag: "text", val: tag });
    });
  }),
};
