// node run.mjs RESULTS TAB NOTEBOOK: runs the notebook's code cells; RESULTS gets their outputs, as JSON.
// TAB: the folder that .ci/website/collect.py filled.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [results, tab, notebook] = process.argv.slice(2).map((name) => path.resolve(name));
const { loadPyodide } = await import(pathToFileURL(path.join(tab, "pyodide.mjs")).href);
const python = await loadPyodide({ indexURL: tab, packageBaseUrl: tab, env: { HOME: "/home/pyodide" } });
await python.loadPackage(["labkit", "ipython"], { messageCallback: () => {} });
python.runPython(fs.readFileSync(new URL("cells.py", import.meta.url), "utf8"));
const run = python.globals.get("run");
fs.writeFileSync(results, run(fs.readFileSync(notebook, "utf8")));
