// A standard error that is full, because nobody reads it: a pager that waits, a terminal after Ctrl-S.
import { describe, test } from "node:test"
import assert from "node:assert/strict"
import { closeSync, constants, openSync, writeSync } from "node:fs"
import { execFileSync } from "node:child_process"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { waitFor } from "../support/waiting.mjs"
import { opened, place, shell, skip } from "./machine.mjs"
import { start } from "./programs.mjs"

watchLeaks()
const patient = (what) => ({ timeout: 60_000, what })

/** The arguments that start a program with a standard error that is full, and that nobody reads. */
function unread (t, folder) {
    const fifo = join(folder, "stderr")
    execFileSync("mkfifo", [ fifo ])
    const end = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK)
    t.after(() => closeSync(end))
    const isFull = (bytes) => {
        try {
            writeSync(end, bytes)
            return false
        }
        catch (error) {
            assert.equal(error.code, "EAGAIN")
            return true
        }
    }
    for (const bytes of [ Buffer.alloc(4096), Buffer.alloc(1) ])
        while (!isFull(bytes))
            ;
    return [ "sh", "-c", "exec \"$@\" 2>\"$0\"", fifo ]
}

describe("standard error that nobody reads", { skip }, () => {
    test("keeps neither a signal from ending the wait, nor the lock from being used", async (t) => {
        const { url, folder } = place(t)
        const by = unread(t, folder)
        const mutex = await opened(t, url)
        const held = await mutex.lock()
        const jobs = [ 1, 2 ].map(() => start(t, "ipc-mutex", [ "exec", "-v", url, ...shell("echo in") ], { by }))
        await waitFor(async () => (await mutex.query()).pending.length === 2, patient("two waiters"))
        // Their first words are due.
        await waitFor(async () => (await mutex.query()).pending.every(({ since }) => Date.now() - since > 1000), patient("them to have waited"))
        jobs[0].signal("SIGTERM")
        assert.equal((await jobs[0].end()).signal, "SIGTERM")
        await held.release()
        const { code, stdout } = await jobs[1].end()
        assert.deepEqual({ code, stdout }, { code: 0, stdout: "in\n" })
    })

    test("keeps no command running that has lost its lock", async (t) => {
        const { url, remove } = place(t), elsewhere = place(t)
        const job = start(t, "ipc-mutex", [ "exec", "--grace", "0", url, ...shell("trap '' TERM; echo ready; while :; do sleep 1; done") ],
            { by: unread(t, elsewhere.folder) })
        await job.says("ready")
        remove()
        assert.equal((await job.end()).code, 75)
    })
})
