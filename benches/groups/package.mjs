// What it costs to have the package: time and memory to load it, and its size.
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { root } from "../../scripts/cargo.mjs"

const require = createRequire(import.meta.url)
const { platformId } = require("../../lib/platform.js")

/**
 * Time of the processor, for nothing here waits and what else the machine does is not to be counted, and memory of one `require` in a
 * fresh process; `what` undefined: of nothing.
 */
function load (what) {
    const code = `
        const before = process.memoryUsage.rss(), begun = process.cpuUsage()
        ${what === undefined ? "" : `require(${JSON.stringify(what)})`}
        const { user, system } = process.cpuUsage(begun), time = (user + system) / 1e3
        console.log(JSON.stringify({ time, memory: process.memoryUsage.rss() - before }))`
    // A file, as programs are: to begin with text of the command line costs Node more of its own code.
    const folder = mkdtempSync(join(tmpdir(), "bench-load-"))
    try {
        const program = join(folder, "program.js")
        writeFileSync(program, code)
        return JSON.parse(execFileSync(process.execPath, [ program ], { encoding: "utf8", cwd: root }))
    }
    finally {
        rmSync(folder, { recursive: true })
    }
}

/** Bytes of the files that npm would install of the main package and of the one of this platform, and how many packages that is. */
function installed () {
    const npm = process.platform === "win32" ? "npm.cmd" : "npm"
    const sizeOf = (folder) => {
        const output = execFileSync(npm, [ "pack", "--dry-run", "--json", "--ignore-scripts" ],
            { cwd: join(root, folder), encoding: "utf8", stdio: [ "ignore", "pipe", "ignore" ], shell: process.platform === "win32" })
        return JSON.parse(output)[0].unpackedSize
    }
    const { dependencies = {} } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
    return { size: sizeOf(".") + sizeOf(`npm/${platformId()}`), packages: 2 + Object.keys(dependencies).length }
}

const RUNS = 15

export const group = {
    name: "package",
    title: "The package",
    start: async () => ({ target: {}, stop: async () => {} }),
    scenarios: [ {
        name: "require", title: "Loaded by require", rounds: 1,
        contenders: [ { role: "ours", label: "ipc-mutex" } ],
        metrics: [
            { key: "time", title: "time", unit: "ms", better: "lower", goals: { limit: 5 } },
            { key: "memory", title: "memory", unit: "bytes", better: "lower", goals: { limit: 4e6 } },
            { key: "size", title: "unpacked", unit: "bytes", better: "lower", goals: { limit: 8e6 } },
            { key: "packages", title: "packages", unit: "", better: "lower", goals: { limit: 2 }, draw: false }
        ],
        run: async () => {
            // With the addon in the file cache, as after the first start; the same in a bare Node is taken off.
            const runs = Array.from({ length: RUNS }, () => ({ with: load(root), bare: load() }))
            const middle = (key) => runs.map((run) => run.with[key] - run.bare[key]).sort((one, other) => one - other)[RUNS >> 1]
            return { time: middle("time"), memory: middle("memory"), ...installed() }
        }
    } ]
}
