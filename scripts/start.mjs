// `npm start`: builds the addon if it is not there, and runs the main job.
import { spawnSync } from "node:child_process"
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"
import path from "node:path"

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)))

function run (script, ...args) {
    const { status, error } = spawnSync(process.execPath, [ path.join(root, script), ...args ], { stdio: "inherit" })
    if (error)
        throw error
    if (status !== 0)
        process.exit(status ?? 1)
}

function built () {
    try {
        createRequire(import.meta.url)("../lib/native.js")
        return true
    }
    catch {
        return false
    }
}

if (!built()) {
    console.log("Building the addon; the first time this takes a few minutes.")
    run("scripts/build.mjs", "--dev")
}
run("examples/ledger/main.mjs")
