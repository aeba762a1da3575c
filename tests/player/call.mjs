// Calls functions that player.js exports: reads [[name, ...arguments], ...] from standard input, prints the results.
import { readFileSync } from "node:fs";

const source = readFileSync(new URL("../../src/stepfit/viewers/player.js", import.meta.url));
// As a data address it is a module for every node, whatever its ending.
const player = await import(`data:text/javascript;base64,${source.toString("base64")}`);

const plain = (_, value) => {
  if (ArrayBuffer.isView(value)) return [...value];
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value; // JSON has no word for these
};
const calls = JSON.parse(readFileSync(0, "utf8"));
const results = await Promise.all(calls.map(([name, ...given]) => player[name](...given)));
process.stdout.write(JSON.stringify(results, plain));
