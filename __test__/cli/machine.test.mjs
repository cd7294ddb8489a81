// Commands under locks of one machine, which need no server.
import { describe, test } from "node:test"
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { waitFor } from "../support/waiting.mjs"
import { opened, place, shell, skip } from "./machine.mjs"
import { run, start } from "./programs.mjs"

watchLeaks()
const patient = (what) => ({ timeout: 60_000, what })

describe("a lock of the machine", { skip }, () => {
    test("is held while the command runs, and given back", async (t) => {
        const { url } = place(t)
        const mutex = await opened(t, url)
        const job = start(t, "ipc-mutex", [ "exec", url, ...shell("echo in $IPC_MUTEX_TOKEN; exec sleep 1000") ])
        await job.says(/in \d+\n/)
        assert.equal(await mutex.tryAcquire(), false)
        const { held: [ { pid, label, token } ] } = await mutex.query()
        assert.deepEqual([ pid, label, `in ${token}\n` ], [ job.pid, "sh", job.stdout ])
        const conflict = await run(t, "ipc-mutex", [ "exec", "-n", url, "--", "true" ])
        assert.equal(conflict.code, 1)
        assert.match(conflict.stderr, /^ipc-mutex: lock "job" is held for \d+ s by sh \(host \S+, pid \d+\)\n$/)
        job.signal("SIGTERM")
        assert.equal((await job.end()).signal, "SIGTERM")
        assert.equal(await mutex.tryAcquire(), true)
    })

    test("goes from command to command, one at a time", async (t) => {
        const { url, folder } = place(t)
        const log = join(folder, "log")
        const jobs = Array.from({ length: 8 }, () => start(t, "ipc-mutex", [ "exec", url, ...shell(`echo in >>${log}; echo out >>${log}`) ]))
        for (const job of jobs)
            assert.equal((await job.end()).code, 0)
        assert.equal(readFileSync(log, "utf8"), "in\nout\n".repeat(8))
    })

    test("is free when this program is killed, and the command is told to end", async (t) => {
        const { url } = place(t)
        const mutex = await opened(t, url)
        const job = start(t, "ipc-mutex", [ "exec", url, ...shell("trap 'echo told; exit' TERM; echo ready; while :; do sleep 0.05; done") ])
        await job.says("ready")
        job.signal("SIGKILL")
        await mutex.acquire({ timeout: 60_000 })
        await job.says("told")
        await job.end()
    })

    test("that is lost ends the command, with code 75", async (t) => {
        const { url, remove } = place(t)
        const job = start(t, "ipc-mutex", [ "exec", url, ...shell("echo ready; sleep 1000 & wait") ])
        await job.says("ready")
        remove()
        const { code, stderr } = await job.end()
        assert.equal(code, 75)
        assert.match(stderr, /lock "job" was lost/)
    })

    test("is shown by status, with those that wait", async (t) => {
        const { url } = place(t)
        const free = await run(t, "ipc-mutex", [ "status", url ])
        assert.deepEqual([ free.code, free.stdout, free.stderr ], [ 0, "lock \"job\" is free\n", "" ])
        const mutex = await opened(t, url)
        const held = await mutex.lock()
        const job = start(t, "ipc-mutex", [ "exec", "-s", url, "--", "cat" ])
        await waitFor(async () => (await mutex.query()).pending.length === 1, patient("a waiter"))
        const { stdout } = await run(t, "ipc-mutex", [ "status", url ])
        assert.match(stdout, /^lock "job" is held, 1 waiting\n/)
        assert.match(stdout, new RegExp(`\nholder +exclusive .* ${process.pid} .* ${held.token}\nwaiter 1 +shared .* ${job.pid} .*cat\n$`))
        const { held: holders, pending } = JSON.parse((await run(t, "ipc-mutex", [ "status", "--json", url ])).stdout)
        assert.deepEqual([ holders[0].token, pending[0].pid, pending[0].mode ], [ String(held.token), job.pid, "shared" ])
        await held.release()
        assert.equal((await job.end()).code, 0)
    })

    test("whose folder is missing is an error that names it", async (t) => {
        const { url, folder, remove } = place(t)
        remove()
        for (const args of [ [ "exec", url, "--", "true" ], [ "status", url ] ]) {
            const { code, stderr } = await run(t, "ipc-mutex", args)
            assert.equal(code, 69)
            assert.ok(stderr.includes(folder))
        }
    })
})
