// The examples under Bun and Deno, where these are installed (docs/runtimes.md).
// time limit: 600 s
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { accessSync, constants, readFileSync } from "node:fs"
import { test } from "node:test"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { servers } from "../support/servers.mjs"
import { matches } from "./prints.mjs"

const execute = promisify(execFile)
const folder = fileURLToPath(new URL("../../examples/", import.meta.url))

const RUNTIMES = { bun: [ "run" ], deno: [ "run", "--no-prompt", "--allow-all" ] }
const PLAIN = [ "spm", "mpm", "with-lock", "handles", "await-using", "try", "timeout", "abort", "shared", "query", "events", "tracing" ]
/** With a server. */
const REMOTE = [ "query", "max-hold" ]

const found = (name) => process.env.PATH.split(delimiter).map((path) => join(path, name)).find((path) => {
    try {
        accessSync(path, constants.X_OK)
        return true
    }
    catch {
        return false
    }
})

/** Runs an example, which must print what it says. */
async function run (program, options, example, args = []) {
    const file = join(folder, `${example}.mjs`)
    const { stdout } = await execute(program, [ ...options, file, ...args ], { timeout: 120_000, env: { ...process.env, NO_COLOR: "1" } })
    matches(readFileSync(file, "utf8"), stdout)
}

for (const [ runtime, options ] of Object.entries(RUNTIMES)) {
    const program = found(runtime)
    const skip = program === undefined && `${runtime} is not installed`
    for (const example of PLAIN)
        test(`${runtime}: ${example}.mjs prints what it says`, { skip }, () => run(program, options, example))
    for (const server of Object.keys(servers))
        test(`${runtime}: the examples work with ${server}`, { skip }, async (t) => {
            const started = await servers[server](t)
            for (const example of REMOTE)
                await run(program, options, example, [ started.url(example) ])
        })
    test(`${runtime}: detectDeadlocks says that it is not available`, { skip }, async () => {
        await assert.rejects(run(program, options, "deadlock"), /"detectDeadlocks" is not available/)
    })
}
