// Signals around the start of a command, where a process cannot be made to get one at an exact moment.
import { test } from "node:test"
import assert from "node:assert/strict"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)
const { Signals } = require("../../lib/cli/signals.js")
const { runCommand } = require("../../lib/cli/command.js")
const { Exit } = require("../../lib/cli/exit.js")

/** `Signals` listens for the whole process: what a test adds is gone after it. */
function signalsFor (t) {
    const names = [ "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM",
        "SIGVTALRM", "SIGIO", "SIGPWR", "SIGTSTP", "SIGCONT", "SIGWINCH" ]
    const before = new Map(names.map((name) => [ name, process.listeners(name) ]))
    t.after(() => {
        for (const name of names)
            for (const listener of process.listeners(name))
                if (!before.get(name).includes(listener))
                    process.off(name, listener)
    })
    return new Signals()
}

test("a signal that came while the command was being started reaches it", (t) => {
    const signals = signalsFor(t)
    const got = []
    process.emit("SIGTERM", "SIGTERM")
    signals.forwardTo({ signal: (name) => got.push(name) })
    process.emit("SIGHUP", "SIGHUP")
    assert.deepEqual(got, [ "SIGTERM", "SIGHUP" ])
})

test("a signal that came after the grant keeps the command from starting", async (t) => {
    const signals = signalsFor(t)
    process.emit("SIGTERM", "SIGTERM")
    const lock = { signal: new AbortController().signal, token: 1n }
    await assert.rejects(
        runCommand({ command: [ process.execPath, "-e", "" ], lock, grace: 1000, close: false, signals, speaker: { say () {} } }),
        (error) => error instanceof Exit && error.code === 143)
})
