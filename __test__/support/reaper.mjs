// Ends what a test process leaves behind when it dies, however it dies: a process of its own, started by the first
// `guard*` call, that reads orders from a pipe. The pipe closes with the test process; then the reaper kills the processes
// and removes the folders and files that it was told of, and ends.
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { rmSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { alive, birth, freeze, signal } from "./processes.mjs"
import { waitFor } from "./waiting.mjs"

const self = fileURLToPath(import.meta.url)
let pipe
let reaper

/** The reaper's own process id, once there is one: it is no child that somebody forgot. */
export function reaperPid () {
    return reaper
}

/** Has process `pid` and its descendants ended when this process ends. `gently` is a signal to try first. */
export function guardProcess (pid, gently) {
    order({ process: pid, birth: birth(pid), gently })
}

/** Has file or folder `path` removed when this process ends. */
export function guardPath (path) {
    order({ path })
}

/** Takes back `guardProcess(pid)` or `guardPath(path)`. */
export function unguard (what) {
    order({ forget: what })
}

function order (message) {
    if (pipe === undefined) {
        // detached: a Ctrl+C at the terminal must not end the reaper together with the tests
        const child = spawn(process.execPath, [ self, "--reap" ], { stdio: [ "pipe", "ignore", "inherit" ], detached: true })
        child.unref()
        reaper = child.pid
        pipe = child.stdin
        pipe.unref()
        pipe.on("error", () => {}) // it was ended by somebody: there is nobody left to tell
    }
    pipe.write(JSON.stringify(message) + "\n")
}

async function reap () {
    const processes = new Map()
    const paths = new Set()
    for await (const line of createInterface({ input: process.stdin })) {
        const message = JSON.parse(line)
        if (message.process !== undefined)
            processes.set(message.process, message)
        else if (message.path !== undefined)
            paths.add(message.path)
        else {
            processes.delete(message.forget)
            paths.delete(message.forget)
        }
    }
    const own = () => [ ...processes.values() ].filter((entry) => birth(entry.process) === entry.birth && alive(entry.process))
    const gentle = own().filter((entry) => entry.gently)
    for (const entry of gentle) {
        signal(entry.process, entry.gently)
        signal(entry.process, "SIGCONT")
    }
    await gone(gentle.map((entry) => entry.process), 2000)
    for (const entry of own()) {
        const all = await freeze(entry.process).catch(() => [ entry.process ])
        for (const pid of all)
            signal(pid, "SIGKILL")
        // One that still ends could write into a folder that is being removed.
        await gone(all, 10_000)
    }
    for (const path of paths)
        rmSync(path, { recursive: true, force: true, maxRetries: 5 })
}

/** Waits so many milliseconds at most. */
async function gone (pids, timeout) {
    await waitFor(() => !pids.some(alive), { timeout, every: 50 }).catch(() => {})
}

if (process.argv[1] === self && process.argv[2] === "--reap")
    await reap()
