// node run.mjs RESULTS TAB NOTEBOOK...: runs the notebooks' code cells; RESULTS gets a line of JSON for each.
// TAB: the folder that website/collect.py filled.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [results, tab, ...notebooks] = process.argv.slice(2).map((name) => path.resolve(name));
const { loadPyodide } = await import(pathToFileURL(path.join(tab, "pyodide.mjs")).href);
const python = await loadPyodide({ indexURL: tab, packageBaseUrl: tab, env: { HOME: "/home/pyodide" } });
await python.loadPackage(["labkit", "ipython"], { messageCallback: () => {} });
python.runPython(fs.readFileSync(new URL("cells.py", import.meta.url), "utf8"));
const run = python.globals.get("run");
for (const notebook of notebooks) {
  const told = run(fs.readFileSync(notebook, "utf8"));
  fs.appendFileSync(results, `${JSON.stringify({ notebook: path.basename(notebook), told: JSON.parse(told) })}\n`);
}
